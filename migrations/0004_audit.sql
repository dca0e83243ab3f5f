-- The audit: searches for orders that nobody told us of, how far the stored orders are known to be complete, and
-- comparisons of what is stored with what the provider says.

-- Where a search through the provider's list stands, so that it goes on after any end. `sweep` runs for ever, one row
-- per account; a `backfill` is a range somebody asked for.
create table cuadre.sweeps (
    account     text not null,
    kind        text not null,
    from_at     timestamptz not null,
    to_at       timestamptz not null,
    -- Orders created before this moment have been listed and dealt with; `page` counts within the window from there on.
    position_at timestamptz not null,
    page        integer not null default 1,
    listed      bigint not null default 0,
    unknown     bigint not null default 0,
    stale       bigint not null default 0,
    started_at  timestamptz not null,
    moved_at    timestamptz not null,
    finished_at timestamptz,
    last_error  text,
    primary key (account, kind, from_at, to_at)
);

-- The certificate: of every order that the provider lists as created from `complete_since` up to `complete_until`, a
-- state at least as new is stored. Moves by whole hours, and never on a failed or partial pass.
create table cuadre.completeness (
    account        text not null,
    complete_since timestamptz not null,
    complete_until timestamptz not null,
    checked_at     timestamptz not null,
    -- Why it does not move: the orders that are missing or older here, or the failure.
    blocked_by     text[] not null default '{}',
    last_error     text,
    -- Types of which orders are stored that the provider's list leaves out: the certificate says nothing about them.
    blind_types    text[] not null default '{}',
    primary key (account)
);

-- Runs of `verify`, by hand or nightly.
create sequence cuadre.verifications_id_seq as bigint;

create table cuadre.verifications (
    verification_id bigint not null default nextval('cuadre.verifications_id_seq'),
    -- full, since, sample
    kind            text not null,
    account         text,
    repair          boolean not null,
    since           timestamptz,
    started_at      timestamptz not null,
    moved_at        timestamptz not null,
    finished_at     timestamptz,
    -- The last order id that was compared: where an interrupted run goes on.
    cursor          text not null default '',
    to_check        bigint not null,
    checked         bigint not null default 0,
    equal           bigint not null default 0,
    drifted         bigint not null default 0,
    repaired        bigint not null default 0,
    -- Not compared: the provider did not answer for it, or shows it no more.
    unanswered      bigint not null default 0,
    primary key (verification_id)
);

create table cuadre.drifts (
    verification_id bigint not null,
    order_id        text not null,
    account         text not null,
    field           text not null,
    stored          text,
    provider        text,
    found_at        timestamptz not null,
    repaired_at     timestamptz,
    primary key (order_id, verification_id, field)
);

create index drifts_by_verification on cuadre.drifts (verification_id, order_id);
