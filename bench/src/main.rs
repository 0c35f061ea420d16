//! The benchmark. Nothing is measured yet: the limit, the peers and the product side by side come with the load generator.

fn main() {
    println!("nothing is measured yet");
}
