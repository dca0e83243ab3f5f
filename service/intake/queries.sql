-- name: record_notifications
-- One flush of deliveries: their rows (copies compacted) and, in the same statement, the marks on their orders.
-- Every multi-row step touches rows in one order (copy_key, then order_id), so concurrent flushes cannot deadlock:
-- `marks` sorts and aggregates, hence all of `recorded` is done before the first row of `sync` is touched.
with arrived as (
    select *
    from unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[], $8::text[],
        $9::smallint[], $10::double precision[], $11::boolean[], $12::boolean[], $13::boolean[], $14::integer[],
        $15::bytea[], $16::text[], $17::text[], $18::text[], $19::text[], $20::boolean[]
    ) as a (
        account, topic, action, resource_id, order_id, verified, verification, manifest,
        secret_index, ts_age_seconds, body_id_differs, refused, simulation, deliveries,
        copy_key, path, query, headers, body, body_altered
    )
),
recorded as (
    insert into cuadre.notifications as n (
        period, account, topic, action, resource_id, order_id, verified, verification, manifest, secret_index,
        ts_age_seconds, body_id_differs, refused, simulation, received_at, last_received_at, copies, copy_key,
        path, query, headers, body, body_altered
    )
    select
        cuadre.period_of(now()), account, topic, action, resource_id, order_id, verified, verification, manifest,
        secret_index, ts_age_seconds, body_id_differs, refused, simulation, now(), now(), deliveries, copy_key,
        path, query::jsonb, headers::jsonb, body::jsonb, body_altered
    from arrived
    order by copy_key
    on conflict (period, copy_key) do update
        set copies = n.copies + excluded.copies, last_received_at = excluded.last_received_at
    returning n.id, n.copy_key, n.copies
),
marks as (
    select
        a.order_id,
        (array_agg(a.account order by a.verified desc, r.id desc))[1] as account,
        bool_or(a.verified) as verified,
        sum(a.deliveries) as deliveries,
        max(r.id) as notification_id
    from arrived as a
    join recorded as r using (copy_key)
    where a.order_id is not null and not a.refused
    group by a.order_id
),
marked as (
    insert into cuadre.sync as s (
        order_id, account, trust, requested, requested_trusted, due_at, cause, notification_id, marked_at
    )
    select
        order_id, account, verified::integer, deliveries, case when verified then deliveries else 0 end, now(),
        'notification', notification_id, now()
    from marks
    order by order_id
    on conflict (order_id) do update set
        -- Only who is trusted more knows better whose order it is; once stored, the account stands.
        account = case when s.trust < 2 and excluded.trust > s.trust then excluded.account else s.account end,
        trust = greatest(s.trust, excluded.trust),
        requested = s.requested + excluded.requested,
        requested_trusted = case
            when excluded.trust > 0 then s.requested + excluded.requested else s.requested_trusted
        end,
        -- Unverified marks bring a look forward at most once a second per order.
        due_at = least(s.due_at, case
            when excluded.trust > 0 or s.claimed_at is null then now()
            else greatest(now(), s.claimed_at + interval '1 second')
        end),
        cause = 'notification',
        notification_id = excluded.notification_id,
        marked_at = now()
)
select r.copy_key, r.id, r.copies from recorded as r;
