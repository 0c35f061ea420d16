//! Links that nothing states, recomputed: the same candidates, bins and choice as SQL over the fact tables and the table
//! `model` (I5). It shares no code with the operators, only their bounds, which a test compares.

/// The oracle: helpers that others read, each as SQL over the fact tables and what precedes it.
pub const HELPERS: &[(&str, &str)] = &[
    (
        // Work that could belong to a ticket.
        "changes",
        "select 'PullRequest' as artifact_kind, pull_request as artifact_id, words, author,
                coalesce(created_at, at) as worked_at, signal
         from (
            select *, row_number() over (partition by pull_request order by at desc, signal desc, seq desc) as age
            from fact_pull_requests
         ) where age = 1 and not deleted
         union all
         select 'Commit', sha, words, author, coalesce(authored_at, at), signal
         from richest_commits where coalesce(parent_count, 1) < 2",
    ),
    (
        "unstated_changes",
        "select c.artifact_kind, c.artifact_id, c.words, c.author,
                cast(floor(date_part('epoch', c.worked_at) / 3600) as bigint) as worked_h, c.worked_at, c.signal
         from changes c
         left join (
            select artifact_kind, artifact_id from stated_evidence where kind <> 'rejected'
            union
            select 'Commit', sha from parts
         ) s on c.artifact_kind = s.artifact_kind and c.artifact_id = s.artifact_id
         where s.artifact_id is null",
    ),
    (
        // The author's accounts, and those that may be the author's.
        "change_people",
        "select artifact_kind, artifact_id, worked_h, author as person from unstated_changes where author is not null
         union
         select c.artifact_kind, c.artifact_id, c.worked_h, k.other from unstated_changes c join kin k on c.author = k.person",
    ),
    (
        "candidate_tickets",
        "select t.ticket_key, t.project, t.words, t.assignee, t.reporter,
                cast(floor(date_part('epoch', t.created_at) / 3600) as bigint) as created_h,
                cast(floor(date_part('epoch', t.resolved_at) / 3600) as bigint) as resolved_h
         from (
            select *, row_number() over (partition by ticket_key order by at desc, signal desc, seq desc) as age
            from fact_tickets
         ) t
         where t.age = 1 and not t.deleted and t.created_at is not null",
    ),
    (
        // Files that a commit touches, or the commits of a pull request.
        "change_files",
        "select *, row_number() over (partition by artifact_kind, artifact_id order by word) as rank
         from (
            select distinct artifact_kind, artifact_id, word
            from (
                select 'Commit' as artifact_kind, sha as artifact_id, unnest(string_to_array(file_words, ' ')) as word
                from richest_commits
                union all
                select 'PullRequest', p.pull_request, unnest(string_to_array(f.file_words, ' '))
                from parts p join fact_commits f on p.sha = f.sha where not f.deleted
            ) where word <> ''
         )",
    ),
    (
        // The hour in which each commit was there, and each path that its versions touch.
        "commit_paths",
        "select sha, signal, seq, deleted, coalesce(file_words, '') <> '' or coalesce(paths, '') <> '' as told,
                cast(floor(date_part('epoch', coalesce(committed_at, authored_at, at)) / 3600) as bigint) as hour,
                unnest(string_to_array(concat(paths, ' '), ' ')) as path
         from fact_commits",
    ),
    (
        // The hour in which work began at the latest.
        "change_began",
        "select c.artifact_kind, c.artifact_id, c.worked_h, least(c.worked_h, min(f.hour)) as began_h
         from unstated_changes c
         left join (
            select 'Commit' as artifact_kind, sha as artifact_id,
                   cast(floor(date_part('epoch', committed_at) / 3600) as bigint) as hour
            from richest_commits where committed_at is not null
            union all
            select 'PullRequest', p.pull_request, f.hour
            from parts p join commit_paths f on p.sha = f.sha where not f.deleted and f.told
         ) f on c.artifact_kind = f.artifact_kind and c.artifact_id = f.artifact_id
         group by c.artifact_kind, c.artifact_id, c.worked_h",
    ),
    (
        // Paths that a commit touches, or the commits of a pull request.
        "change_paths",
        "select * from (
            select *, row_number() over (partition by artifact_kind, artifact_id order by path) as place
            from (
                select 'Commit' as artifact_kind, c.sha as artifact_id, f.path
                from richest_commits c
                join commit_paths f on c.sha = f.sha and c.signal = f.signal and c.seq = f.seq
                where f.path <> ''
                union
                select 'PullRequest', p.pull_request, f.path
                from parts p join commit_paths f on p.sha = f.sha where not f.deleted and f.path <> ''
            )
         ) where place <= 8",
    ),
    (
        // Tickets that commits state, and from which hour on.
        "commit_tickets",
        "select e.artifact_id as sha, e.ticket_key,
                min(case when e.kind = 'via_pull_request'
                         then greatest(c.hour, cast(floor(date_part('epoch', e.at) / 3600) as bigint))
                         else c.hour end) as hour
         from stated_evidence e
         join (
            select sha, cast(floor(date_part('epoch', coalesce(committed_at, authored_at, at)) / 3600) as bigint) as hour
            from richest_commits
         ) c on e.artifact_id = c.sha
         where e.artifact_kind = 'Commit' and e.kind not in ('body_key', 'number_key', 'revert')
         group by e.artifact_id, e.ticket_key having bool_and(e.kind <> 'rejected')",
    ),
    (
        // Tickets that their tracker connects, in both directions.
        "neighbours",
        "with stated as (
            select ticket_key as one, parent_key as other from tickets where parent_key is not null
            union
            select src_id, dst_id from relations_in_force
            where edge in ('LINKED_TO', 'PART_OF') and src_kind = 'Ticket' and dst_kind = 'Ticket'
         ),
         named as (
            select coalesce(n.ticket_key, s.one) as one, coalesce(m.ticket_key, s.other) as other
            from stated s left join ticket_names n on s.one = n.name left join ticket_names m on s.other = m.name
         ),
         pairs as (
            select one, other from named where one <> other union select other, one from named where one <> other
         ),
         told_by_few as (
            select one, other from (select *, count(*) over (partition by one) as others from pairs) where others <= 24
         )
         select one, other from (
            select *, count(*) over (partition by other) as others from told_by_few
         ) where others <= 24",
    ),
    (
        // Files that stated commits of a ticket touched, or of its neighbours, and from which hour on.
        "touched",
        "with own as (
            select t.ticket_key, p.path, floor(t.hour / 2160.0) as span, min(t.hour) as hour
            from commit_tickets t
            join change_paths p on p.artifact_kind = 'Commit' and t.sha = p.artifact_id
            group by t.ticket_key, p.path, floor(t.hour / 2160.0)
         )
         select path, span, ticket_key, created_h, hour, count(*) over (partition by path, span) as tickets
         from (
            select o.path, o.span, o.hour, c.ticket_key, c.created_h
            from own o join candidate_tickets c on o.ticket_key = c.ticket_key
            union all
            select o.path, o.span, o.hour, c.ticket_key, c.created_h
            from own o join neighbours n on o.ticket_key = n.other join candidate_tickets c on n.one = c.ticket_key
         )",
    ),
    (
        // Changes, and tickets of which files that they touch were touched before.
        "touched_pairs",
        "select b.artifact_kind, b.artifact_id, t.ticket_key, count(distinct p.path) as touched
         from change_began b
         join change_paths p on b.artifact_kind = p.artifact_kind and b.artifact_id = p.artifact_id
         join touched t on p.path = t.path
         where t.tickets <= 24 and t.hour < b.began_h and b.worked_h - t.created_h >= -336
           and t.span between floor((b.began_h - 1 * 2160) / 2160.0) and floor(b.began_h / 2160.0)
         group by b.artifact_kind, b.artifact_id, t.ticket_key",
    ),
    (
        "change_words",
        "select w.artifact_kind, w.artifact_id, w.worked_h, w.sort, w.word, coalesce(m.weight, u.weight) as idf,
                m.kind is not null as known
         from (
            select artifact_kind, artifact_id, worked_h, 'word' as sort, unnest(string_to_array(words, ' ')) as word
            from unstated_changes
            union all
            select c.artifact_kind, c.artifact_id, c.worked_h, 'file', f.word
            from unstated_changes c
            join change_files f on c.artifact_kind = f.artifact_kind and c.artifact_id = f.artifact_id
            where f.rank <= 96
         ) w
         cross join (select weight from model where kind = 'word:') u
         left join model m on m.kind = concat('word:', w.word)
         where w.word <> '' and w.word not like '%:'",
    ),
    (
        "ticket_words",
        "select w.ticket_key, w.created_h, w.word, coalesce(m.weight, u.weight) as idf
         from (
            select ticket_key, created_h, unnest(string_to_array(words, ' ')) as word from candidate_tickets
         ) w
         cross join (select weight from model where kind = 'word:') u
         left join model m on m.kind = concat('word:', w.word)
         where w.word <> ''",
    ),
    (
        // Changes and tickets that a rare word or a person connects.
        "compared",
        "with looked_up as (
            select distinct artifact_kind, artifact_id, worked_h, word from (
                select *, row_number() over (
                    partition by artifact_kind, artifact_id, sort, known
                    order by idf desc, length(word) desc, word) as rank
                from change_words
            ) where (known and sort = 'word' and rank <= 12) or (not known and sort = 'word' and rank <= 8)
                 or (known and sort = 'file' and rank <= 4)
         ),
         posted as (
            select word, ticket_key, created_h, floor(created_h / 4383.0) as span,
                   count(*) over (partition by word, floor(created_h / 4383.0)) as tickets
            from ticket_words
         ),
         owned as (
            select person, ticket_key, created_h, floor(created_h / 1080.0) as span,
                   count(*) over (partition by person, floor(created_h / 1080.0)) as tickets
            from (
                select assignee as person, ticket_key, created_h from candidate_tickets where assignee is not null
                union
                select reporter, ticket_key, created_h from candidate_tickets where reporter is not null
            )
         )
         select l.artifact_kind, l.artifact_id, p.ticket_key
         from looked_up l join posted p on l.word = p.word
         where p.tickets <= 24 and l.worked_h - p.created_h >= -336
           and p.span between floor(l.worked_h / 4383.0) - 2 and floor((l.worked_h + 336) / 4383.0)
         union
         select c.artifact_kind, c.artifact_id, o.ticket_key
         from change_people c join owned o on c.person = o.person
         where o.tickets <= 24 and c.worked_h - o.created_h >= -336
           and o.span between floor((c.worked_h - 1080) / 1080.0) and floor((c.worked_h + 336) / 1080.0)
         union
         select artifact_kind, artifact_id, ticket_key from touched_pairs",
    ),
    (
        // Where tickets stood at the time of the work, of those whose tracker told from the beginning.
        "stood",
        "select artifact_kind, artifact_id, ticket_key,
                case when last in ('in_progress', 'blocked') then 3 when begun then 2 else 1 end as progress
         from (
            select p.artifact_kind, p.artifact_id, p.ticket_key, f.progress as last,
                   row_number() over (
                       partition by p.artifact_kind, p.artifact_id, p.ticket_key
                       order by f.at desc, f.signal desc, f.seq desc) as age,
                   bool_or(f.progress <> 'todo') over (
                       partition by p.artifact_kind, p.artifact_id, p.ticket_key) as begun
            from compared p
            join unstated_changes c on p.artifact_kind = c.artifact_kind and p.artifact_id = c.artifact_id
            join candidate_tickets t on p.ticket_key = t.ticket_key
            join (
                select ticket_key, cast(floor(date_part('epoch', at) / 3600) as bigint) as told_h from (
                    select *, row_number() over (partition by ticket_key order by at, signal, seq) as place
                    from fact_tickets
                ) where place = 1 and progress <> 'done'
            ) b on p.ticket_key = b.ticket_key and b.told_h <= t.created_h
            join fact_tickets f on p.ticket_key = f.ticket_key and f.at <= c.worked_at
         ) where age = 1",
    ),
    (
        // What each pair has in common.
        "features",
        "select p.artifact_kind, p.artifact_id, p.ticket_key, t.project, c.worked_at, c.signal,
                case when coalesce(w.total, 0) = 0 then 0
                     else cast(floor(cast(1000 * coalesce(s.shared, 0) as double) / w.total) as bigint) end as cover,
                case when coalesce(w.total, 0) = 0 then 0
                     else 10 * cast(floor(cast(500 * coalesce(s.shared, 0) as double) / w.total) as bigint) end as covered,
                coalesce(s.shared, 0) as shared, coalesce(f.file, 0) as file,
                coalesce(d.touched, 0) as touched, coalesce(i.progress, 0) as progress, c.worked_h - t.created_h as age,
                case when t.resolved_h < c.worked_h then c.worked_h - t.resolved_h else 0 end as done,
                case when a.person is not null then case when r.person is not null then 5 else 4 end
                     when r.person is not null then case when t.assignee is null then 3 else 2 end
                     when t.assignee is null then 1 else 0 end as owner,
                coalesce(g.tagged, 0) as tag, coalesce(l.words, 0) as length,
                case when p.artifact_kind = 'PullRequest' then 1 else 0 end as pull
         from compared p
         join unstated_changes c on p.artifact_kind = c.artifact_kind and p.artifact_id = c.artifact_id
         join candidate_tickets t on p.ticket_key = t.ticket_key
         left join touched_pairs d
           on p.artifact_kind = d.artifact_kind and p.artifact_id = d.artifact_id and p.ticket_key = d.ticket_key
         left join stood i
           on p.artifact_kind = i.artifact_kind and p.artifact_id = i.artifact_id and p.ticket_key = i.ticket_key
         left join change_people a
           on p.artifact_kind = a.artifact_kind and p.artifact_id = a.artifact_id and t.assignee = a.person
         left join change_people r
           on p.artifact_kind = r.artifact_kind and p.artifact_id = r.artifact_id and t.reporter = r.person
         left join (select ticket_key, cast(sum(idf) as bigint) as total from ticket_words group by ticket_key) w
           on p.ticket_key = w.ticket_key
         left join (
            select q.artifact_kind, q.artifact_id, q.ticket_key, cast(sum(b.idf) as bigint) as shared
            from compared q
            join change_words a on q.artifact_kind = a.artifact_kind and q.artifact_id = a.artifact_id
            join ticket_words b on q.ticket_key = b.ticket_key and a.word = b.word
            where a.sort = 'word' group by q.artifact_kind, q.artifact_id, q.ticket_key
         ) s on p.artifact_kind = s.artifact_kind and p.artifact_id = s.artifact_id and p.ticket_key = s.ticket_key
         left join (
            select q.artifact_kind, q.artifact_id, q.ticket_key, max(b.idf) as file
            from compared q
            join change_words a on q.artifact_kind = a.artifact_kind and q.artifact_id = a.artifact_id
            join ticket_words b on q.ticket_key = b.ticket_key and a.word = b.word
            where a.sort = 'file' group by q.artifact_kind, q.artifact_id, q.ticket_key
         ) f on p.artifact_kind = f.artifact_kind and p.artifact_id = f.artifact_id and p.ticket_key = f.ticket_key
         left join (
            select artifact_kind, artifact_id, count(*) as words from change_words where sort = 'word'
            group by artifact_kind, artifact_id
         ) l on p.artifact_kind = l.artifact_kind and p.artifact_id = l.artifact_id
         left join (
            select w.artifact_kind, w.artifact_id, 1 as tagged
            from (
                select artifact_kind, artifact_id, unnest(string_to_array(words, ' ')) as word from unstated_changes
            ) w join model m on m.kind = concat('tag:', w.word)
            group by w.artifact_kind, w.artifact_id
         ) g on p.artifact_kind = g.artifact_kind and p.artifact_id = g.artifact_id",
    ),
    (
        // The candidates that are kept, with the weights of their bins and their share of the whole.
        "candidates",
        "with kept as (
            select * from (
                select *, row_number() over (
                    partition by artifact_kind, artifact_id order by rough desc, ticket_key) as rank
                from (
                    select *, covered + cast(floor(shared / 8.0) as bigint)
                           + case when file > 0 then 1000 else 0 end
                           + case when age < 168 then 1500 when age < 720 then 1000 when age < 2880 then 500 else 0 end
                           + case when owner >= 4 then 1500 else 0 end + 250 * touched as rough
                    from features
                )
            ) where rank <= 8
         ),
         weighed as (
            select k.artifact_kind, k.artifact_id, k.ticket_key, k.project, k.worked_at, k.signal,
                   cover.weight + shared.weight as text_weight,
                   cast(floor(sqrt(cast(cover.spread * cover.spread + shared.spread * shared.spread as double))) as bigint)
                     as text_spread,
                   file.weight + touched.weight as file_weight,
                   cast(floor(sqrt(cast(file.spread * file.spread + touched.spread * touched.spread as double))) as bigint)
                     as file_spread,
                   owner.weight as owner_weight, owner.spread as owner_spread,
                   age.weight + done.weight + progress.weight as time_weight,
                   cast(floor(sqrt(cast(age.spread * age.spread + done.spread * done.spread
                     + progress.spread * progress.spread as double))) as bigint) as time_spread,
                   prior.weight + tag.weight + len.weight + pull.weight as other_weight,
                   cast(floor(sqrt(cast(tag.spread * tag.spread + len.spread * len.spread + pull.spread * pull.spread
                     as double))) as bigint) as other_spread
            from kept k
            cross join (select weight from model where kind = 'unstated') prior
            join model cover on cover.kind = 'bin:cover' and k.cover >= cover.at_least and k.cover < cover.below
            join model shared on shared.kind = 'bin:shared' and k.shared >= shared.at_least and k.shared < shared.below
            join model file on file.kind = 'bin:file' and k.file >= file.at_least and k.file < file.below
            join model touched
              on touched.kind = 'bin:touched' and k.touched >= touched.at_least and k.touched < touched.below
            join model progress
              on progress.kind = 'bin:progress' and k.progress >= progress.at_least and k.progress < progress.below
            join model age on age.kind = 'bin:age' and k.age >= age.at_least and k.age < age.below
            join model done on done.kind = 'bin:done' and k.done >= done.at_least and k.done < done.below
            join model owner on owner.kind = 'bin:owner' and k.owner >= owner.at_least and k.owner < owner.below
            join model tag on tag.kind = 'bin:tag' and k.tag >= tag.at_least and k.tag < tag.below
            join model pull on pull.kind = 'bin:pull' and k.pull >= pull.at_least and k.pull < pull.below
            join model len on len.kind = 'bin:length' and k.length >= len.at_least and k.length < len.below
         ),
         scored as (
            select *, cast(round(1000000.0 * exp(cast(greatest(-12000, least(12000,
                text_weight + file_weight + owner_weight + time_weight + other_weight)) as double) / 1000.0)) as bigint) as u
            from weighed
         )
         select s.*, 1000000 + cast(sum(u) over (partition by artifact_kind, artifact_id) as bigint) as whole from scored s",
    ),
    (
        // The reasons that are shown.
        "inferred_evidence",
        "with shown as (
            select c.*, other_weight - (select min(prior) from model where kind = 'confirmed')
                   + cast(round(-1000.0 * ln(cast(whole - u as double) / 1000000.0)) as bigint) as against
            from candidates c where 20 * u >= whole
         )
         select * from (
            select artifact_kind, artifact_id, ticket_key, 'text_similarity' as kind, project,
                   text_weight as weight_millinats, text_spread as spread_millinats, worked_at as at, signal from shown
            union all
            select artifact_kind, artifact_id, ticket_key, 'file_overlap', project, file_weight, file_spread, worked_at,
                   signal from shown
            union all
            select artifact_kind, artifact_id, ticket_key, 'author_is_assignee', project, owner_weight, owner_spread,
                   worked_at, signal from shown
            union all
            select artifact_kind, artifact_id, ticket_key, 'time_proximity', project, time_weight, time_spread, worked_at,
                   signal from shown
            union all
            select artifact_kind, artifact_id, ticket_key, 'competition', project, against, other_spread, worked_at,
                   signal from shown
         ) where weight_millinats <> 0",
    ),
];

#[cfg(test)]
mod tests {
    use super::{
        super::{
            choice::SHOWN_ONE_IN,
            touched::{NEIGHBOURS_MAX, PATHS, WORDS_MAX},
            *,
        },
        HELPERS,
    };

    #[test]
    fn the_oracle_has_the_same_bounds() {
        let all: String = HELPERS.iter().map(|(_, sql)| *sql).collect();
        for part in [
            format!("rank <= {KNOWN_WORDS}) or (not known and sort = 'word' and rank <= {UNKNOWN_WORDS})"),
            format!("(known and sort = 'file' and rank <= {FILE_WORDS})"),
            format!("p.tickets <= {TICKETS_MAX} and l.worked_h - p.created_h >= -{AHEAD_HOURS}"),
            format!("floor(l.worked_h / {SPAN_HOURS}.0) - {SPANS_BACK}"),
            format!("floor((c.worked_h - {OWN_HOURS}) / {OWN_HOURS}.0) and floor((c.worked_h + {AHEAD_HOURS})"),
            format!("f.rank <= {WORDS_MAX}"),
            format!("where place <= {PATHS}"),
            format!("+ {TOUCHED_ROUGH} * touched as rough"),
            format!("from pairs) where others <= {NEIGHBOURS_MAX}"),
            format!("floor(t.hour / {TOUCHED_HOURS}.0) as span"),
            format!("t.tickets <= {TICKETS_MAX} and t.hour < b.began_h and b.worked_h - t.created_h >= -{AHEAD_HOURS}"),
            format!("floor((b.began_h - {TOUCHED_BACK} * {TOUCHED_HOURS}) / {TOUCHED_HOURS}.0)"),
            format!("where rank <= {CANDIDATES}"),
            format!("{SHOWN_ONE_IN} * u >= whole"),
        ] {
            assert!(all.contains(&part), "{part}");
        }
    }
}
