-- The first schema: what was told (notifications), what is owed a look (sync), what is true (orders and their
-- parts), how it came to be (order_versions, events, fetches), and what does not add up (discrepancies).
--
-- Tables that only grow are partitioned by calendar month (UTC). `cuadre.ensure_partitions` makes the months
-- ahead; a row that finds no month lands in the default partition, which is noticed and never lost.
-- Runs on PostgreSQL 14 to 18: sequences instead of identity columns, which partitioned tables know from 17 on.

create schema if not exists cuadre;

-- Orders --------------------------------------------------------------------------------------------------------

create table cuadre.orders (
    order_id           text not null,
    account            text not null,
    user_id            text,
    type               text,
    external_reference text,
    description        text,
    status             text,
    status_detail      text,
    total_amount       numeric,
    currency           text,
    country_code       text,
    -- Recomputed from the payments and refunds at every applied snapshot, never kept by adding deltas.
    paid_amount        numeric not null default 0,
    refunded_amount    numeric not null default 0,
    -- Paid and not given back in full: what `duplicate_sale` compares.
    is_sale            boolean not null default false,
    created_at         timestamptz,
    updated_at         timestamptz,
    expires_at         timestamptz,
    payload            jsonb not null,
    payload_hash       bytea not null,
    -- True where jsonb refused something in the answer and a visible replacement is stored instead.
    payload_altered    boolean not null default false,
    -- What the rules need to remember of earlier snapshots; a fold over order_versions.
    history            jsonb not null default '{}',
    version            integer not null,
    -- The fence: the database's clock when the stored snapshot's fetch was claimed, before its request.
    claimed_at         timestamptz not null,
    fetched_at         timestamptz not null,
    first_seen_at      timestamptz not null,
    changed_at         timestamptz not null,
    -- When a rule about time (a refund stuck too long) can next change its mind without a new snapshot.
    rules_due_at       timestamptz,
    primary key (order_id)
) with (fillfactor = 80);

create index orders_by_update on cuadre.orders (updated_at desc, order_id desc);
create index orders_by_account_update on cuadre.orders (account, updated_at desc, order_id desc);
create index orders_by_reference on cuadre.orders (account, external_reference, created_at, order_id);
create index orders_sales_by_reference on cuadre.orders (account, external_reference, created_at, order_id)
    where is_sale and external_reference <> '';
create index orders_by_type_status on cuadre.orders (type, status);
create index orders_rules_due on cuadre.orders (rules_due_at) where rules_due_at is not null;

create table cuadre.payments (
    order_id          text not null,
    payment_id        text not null,
    position          integer not null,
    status            text,
    status_detail     text,
    amount            numeric,
    paid_amount       numeric,
    refunded_amount   numeric,
    tip_amount        numeric,
    currency          text,
    method_id         text,
    method_type       text,
    installments      integer,
    provider          text,
    reference_id      text,
    expires_at        timestamptz,
    first_seen_at     timestamptz not null,
    -- Set while the provider's answer no longer shows a payment that it once showed.
    vanished_at       timestamptz,
    primary key (order_id, payment_id)
) with (fillfactor = 80);

create index payments_by_payment on cuadre.payments (payment_id);
create index payments_by_reference on cuadre.payments (reference_id) where reference_id is not null;

create table cuadre.refunds (
    order_id          text not null,
    refund_id         text not null,
    position          integer not null,
    payment_id        text,
    status            text,
    status_detail     text,
    amount            numeric,
    currency          text,
    reference_id      text,
    first_seen_at     timestamptz not null,
    vanished_at       timestamptz,
    primary key (order_id, refund_id)
) with (fillfactor = 80);

create index refunds_by_refund on cuadre.refunds (refund_id);
create index refunds_by_payment on cuadre.refunds (payment_id) where payment_id is not null;

create table cuadre.chargebacks (
    order_id          text not null,
    chargeback_id     text not null,
    position          integer not null,
    payment_id        text,
    status            text,
    amount            numeric,
    currency          text,
    case_id           text,
    first_seen_at     timestamptz not null,
    vanished_at       timestamptz,
    primary key (order_id, chargeback_id)
) with (fillfactor = 80);

create table cuadre.cash_outs (
    order_id          text not null,
    cash_out_id       text not null,
    position          integer not null,
    status            text,
    status_detail     text,
    amount            numeric,
    currency          text,
    reference_id      text,
    first_seen_at     timestamptz not null,
    vanished_at       timestamptz,
    primary key (order_id, cash_out_id)
) with (fillfactor = 80);

-- What does not add up ------------------------------------------------------------------------------------------

create sequence cuadre.discrepancies_id_seq as bigint;

create table cuadre.discrepancies (
    id              bigint not null default nextval('cuadre.discrepancies_id_seq'),
    order_id        text not null,
    account         text not null,
    rule            text not null,
    subject_id      text not null,
    severity        text not null,
    amount_at_stake numeric,
    currency        text,
    expected        text not null,
    actual          text not null,
    -- One sentence that a shop manager understands.
    explanation     text not null,
    opened_at       timestamptz not null,
    refreshed_at    timestamptz not null,
    resolved_at     timestamptz,
    acknowledged_at timestamptz,
    note            text,
    primary key (order_id, id)
);

create unique index discrepancies_open_once on cuadre.discrepancies (order_id, rule, subject_id)
    where resolved_at is null;
create index discrepancies_by_id on cuadre.discrepancies (id);
create index discrepancies_open_by_subject on cuadre.discrepancies (rule, subject_id) where resolved_at is null;

-- Whether a look is owed ----------------------------------------------------------------------------------------

create table cuadre.sync (
    order_id           text not null,
    account            text not null,
    -- 0: only unverified notifications speak of it; 1: a verified notification or an operator does; 2: it is stored.
    trust              smallint not null default 0,
    -- Counters. `fetched >= requested` means caught up; `requested_trusted` is what `requested` was at the last
    -- mark that deserves full speed.
    requested          bigint not null default 0,
    requested_trusted  bigint not null default 0,
    fetched            bigint not null default 0,
    due_at             timestamptz,
    -- Not indexed on purpose: claiming and releasing stay HOT updates.
    leased_until       timestamptz,
    lease_token        uuid,
    claimed_at         timestamptz,
    -- `attempts` counts what is wrong with this order; `troubles` what is not its fault.
    attempts           integer not null default 0,
    troubles           integer not null default 0,
    -- Claims in a row whose worker never came back: an order that kills its worker must not do so for ever.
    lost_leases        integer not null default 0,
    failing_since      timestamptz,
    last_error         text,
    quarantined_at     timestamptz,
    quarantine_reason  text,
    -- Why the next look is owed, and the latest notification that asked for it.
    cause              text,
    notification_id    bigint,
    marked_at          timestamptz,
    primary key (order_id)
) with (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1,
    autovacuum_analyze_threshold = 2000
);

-- `known` rows (trust > 0) and strangers wait in separate queues, so that a flood of strangers starves nobody.
create index sync_due on cuadre.sync (account, (trust > 0), due_at) where due_at is not null;
create index sync_quarantined on cuadre.sync (quarantined_at) where quarantined_at is not null;

-- The raw text of an answer that could not be read as an order, for the operator who looks into a quarantine.
create table cuadre.unreadable_payloads (
    order_id text not null,
    account  text not null,
    reason   text not null,
    body     text not null,
    seen_at  timestamptz not null,
    primary key (order_id)
);

-- What was told, partitioned by month ----------------------------------------------------------------------------

create sequence cuadre.notifications_id_seq as bigint;

create table cuadre.notifications (
    id               bigint not null default nextval('cuadre.notifications_id_seq'),
    period           date not null,
    account          text not null,
    topic            text,
    action           text,
    resource_id      text,
    -- The order that this notification marked due, if it did.
    order_id         text,
    verified         boolean not null,
    verification     text not null,
    manifest         text,
    secret_index     smallint,
    ts_age_seconds   double precision,
    -- True where the body names another id than the one acted on.
    body_id_differs  boolean not null default false,
    -- A sample of what policy `required` turned away, kept so that a drift can be explained.
    refused          boolean not null default false,
    simulation       boolean not null default false,
    received_at      timestamptz not null,
    last_received_at timestamptz not null,
    copies           integer not null default 1,
    copy_key         bytea not null,
    path             text not null,
    query            jsonb not null,
    headers          jsonb not null,
    body             jsonb,
    body_altered     boolean not null default false,
    primary key (id, period)
) partition by range (period);

create unique index notifications_copies on cuadre.notifications (period, copy_key);
create index notifications_by_order on cuadre.notifications (order_id, id) where order_id is not null;
create index notifications_by_resource on cuadre.notifications (resource_id, id);

create table cuadre.notifications_default partition of cuadre.notifications default;

-- How it came to be, partitioned by month -------------------------------------------------------------------------

create table cuadre.order_versions (
    order_id        text not null,
    version         integer not null,
    period          date not null,
    account         text not null,
    type            text,
    status          text,
    status_detail   text,
    total_amount    numeric,
    currency        text,
    paid_amount     numeric not null,
    refunded_amount numeric not null,
    updated_at      timestamptz,
    claimed_at      timestamptz not null,
    observed_at     timestamptz not null,
    cause           text not null,
    notification_id bigint,
    payload         jsonb not null,
    primary key (order_id, version, period)
) partition by range (period);

create table cuadre.order_versions_default partition of cuadre.order_versions default;

create table cuadre.fetches (
    order_id        text not null,
    claimed_at      timestamptz not null,
    period          date not null,
    account         text not null,
    cause           text not null,
    notification_id bigint,
    -- `applied`, `unchanged`, `older`, or what went wrong.
    outcome         text not null,
    detail          text,
    version         integer,
    settled_at      timestamptz not null,
    primary key (order_id, claimed_at, period)
) partition by range (period);

create table cuadre.fetches_default partition of cuadre.fetches default;

-- `position` is given after the commit by one writer at a time, so a reader that follows it misses nothing although
-- transactions commit out of order. `event_id` is the order in which events of one order were written.
create sequence cuadre.events_event_id_seq as bigint;
create sequence cuadre.events_position_seq as bigint;

create table cuadre.events (
    event_id    bigint not null default nextval('cuadre.events_event_id_seq'),
    period      date not null,
    position    bigint,
    order_id    text not null,
    account     text not null,
    type        text not null,
    version     integer,
    data        jsonb not null,
    recorded_at timestamptz not null,
    primary key (order_id, event_id, period)
) partition by range (period);

create index events_by_position on cuadre.events (position) where position is not null;
create index events_without_position on cuadre.events (event_id) where position is null;

create table cuadre.events_default partition of cuadre.events default;

-- Housekeeping ----------------------------------------------------------------------------------------------------

-- One process at a time does a singleton's work; a lease row also works behind a transaction pooler.
create table cuadre.leaders (
    name        text not null,
    holder      text not null,
    held_until  timestamptz not null,
    primary key (name)
);

-- The month a moment belongs to: the partition key of everything that only grows.
create function cuadre.period_of(moment timestamptz) returns date
    language sql immutable parallel safe
    return date_trunc('month', moment at time zone 'UTC')::date;

-- Makes this month's partitions and those of the months ahead; returns how many it made.
create function cuadre.ensure_partitions(months_ahead integer) returns integer
    language plpgsql
    set search_path = pg_catalog, pg_temp
    -- Making a partition locks its table: rather later than making everybody wait behind a long reader.
    set lock_timeout = '200ms'
as $$
declare
    parent text;
    first_day date;
    child text;
    made integer := 0;
begin
    foreach parent in array array['notifications', 'order_versions', 'fetches', 'events'] loop
        for ahead in 0..months_ahead loop
            first_day := (cuadre.period_of(clock_timestamp()) + make_interval(months => ahead))::date;
            child := format('%s_%s', parent, to_char(first_day, 'YYYYMM'));
            if to_regclass(format('cuadre.%I', child)) is null then
                begin
                    execute format(
                        'create table cuadre.%I partition of cuadre.%I for values from (%L) to (%L)',
                        child, parent, first_day, (first_day + interval '1 month')::date);
                    made := made + 1;
                exception when check_violation then
                    -- Rows of that month lie in the default partition already: an operator has to move them. Until
                    -- then the month goes on there, nothing is lost, and the metric says so.
                    raise warning 'cuadre.%_default holds rows of %: no partition made', parent, first_day;
                when lock_not_available then
                    raise warning 'cuadre.% is in use: no partition for % made yet', parent, first_day;
                end;
            end if;
        end loop;
    end loop;
    return made;
end;
$$;

select cuadre.ensure_partitions(3);
