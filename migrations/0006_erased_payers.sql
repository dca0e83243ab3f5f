-- A payer's data, once erased, stays away.

-- What the provider says about this order's payer is not stored again.
alter table cuadre.orders add column payer_erased_at timestamptz;
