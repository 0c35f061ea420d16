//! `#[derive(Record)]`: a plain struct becomes a typed row.
//!
//! The doc comment of a field is the documentation of its column and `#[unit = "…"]` its unit, so the struct, the
//! Parquet schema and the catalogue cannot drift apart.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Expr, Fields, Lit, Meta, parse_macro_input};

/// Implements `flowsync_schemas::record::Record` for a struct with named fields.
#[proc_macro_derive(Record, attributes(unit))]
pub fn derive_record(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let name = &input.ident;
    let Data::Struct(data) = &input.data else {
        return error(name, "Record is derived for structs only");
    };
    let Fields::Named(fields) = &data.fields else {
        return error(name, "Record needs named fields: a field is a column");
    };
    let mut columns = Vec::new();
    let mut idents = Vec::new();
    let mut types = Vec::new();
    for field in &fields.named {
        let Some(ident) = &field.ident else { continue };
        let doc = text_of(&field.attrs, "doc");
        if doc.is_empty() {
            return error(ident, "every column is documented: add a doc comment");
        }
        let unit = text_of(&field.attrs, "unit");
        let column = ident.to_string();
        let column = column.strip_prefix("r#").unwrap_or(&column).to_owned();
        let ty = &field.ty;
        columns.push(quote! {
            ::flowsync_schemas::record::ColumnSpec {
                name: #column,
                kind: <#ty as ::flowsync_schemas::record::Field>::KIND,
                nullable: <#ty as ::flowsync_schemas::record::Field>::NULLABLE,
                unit: #unit,
                doc: #doc,
            }
        });
        idents.push(ident);
        types.push(ty);
    }
    let count = idents.len();
    quote! {
        impl ::flowsync_schemas::record::Record for #name {
            const COLUMNS: &'static [::flowsync_schemas::record::ColumnSpec] = &[#(#columns),*];

            fn push_values(self, out: &mut Vec<::flowsync_schemas::record::Value>) {
                out.reserve(#count);
                #(out.push(::flowsync_schemas::record::Field::into_value(self.#idents));)*
            }

            fn push_bytes(&self, out: &mut ::flowsync_schemas::RowBytes) {
                #(::flowsync_schemas::record::Field::push_bytes(&self.#idents, out);)*
            }

            fn from_cells(
                cells: &dyn ::flowsync_schemas::record::Cells,
                texts: &mut ::flowsync_schemas::record::Texts,
            ) -> Result<Self, ::flowsync_schemas::record::RecordError> {
                let mut values =
                    ::flowsync_schemas::record::Reader::new(stringify!(#name), Self::COLUMNS, cells, texts)?;
                Ok(Self { #(#idents: values.next::<#types>()?),* })
            }

            fn share(&mut self, texts: &mut ::flowsync_schemas::record::Texts) {
                #(::flowsync_schemas::record::Field::share(&mut self.#idents, texts);)*
            }
        }
    }
    .into()
}

fn error(at: &syn::Ident, message: &str) -> TokenStream {
    syn::Error::new(at.span(), message).to_compile_error().into()
}

fn text_of(attrs: &[syn::Attribute], name: &str) -> String {
    let mut lines = Vec::new();
    for attr in attrs.iter().filter(|a| a.path().is_ident(name)) {
        if let Meta::NameValue(pair) = &attr.meta
            && let Expr::Lit(lit) = &pair.value
            && let Lit::Str(text) = &lit.lit
        {
            lines.push(text.value().trim().to_owned());
        }
    }
    lines.join(" ")
}
