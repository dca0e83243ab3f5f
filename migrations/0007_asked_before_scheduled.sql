-- What somebody asks for goes before what only the schedule brings.

-- True from a mark until a look has served it. A column, so that repeated marks of one order, which leave it as it is,
-- stay HOT updates. The table is small (one row per order that is looked at): rewriting it is a matter of moments.
-- squawk-ignore adding-field-with-default
alter table cuadre.sync add column asked boolean generated always as (requested > fetched) stored;

-- squawk-ignore require-concurrent-index-deletion
drop index cuadre.sync_due;
-- squawk-ignore require-concurrent-index-creation
create index sync_due on cuadre.sync (account, (trust > 0), asked, due_at) where due_at is not null;
