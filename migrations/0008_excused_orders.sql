-- Orders that the certificate of completeness goes without, because somebody looked into them and says so.

create table cuadre.excused_orders (
    order_id   text not null,
    account    text not null,
    -- Why: for whoever relies on the certificate later.
    note       text not null,
    excused_at timestamptz not null,
    primary key (order_id)
);
