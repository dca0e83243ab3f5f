-- From which hour of creation on a certificate of completeness speaks of a type that it said nothing about before.

-- By type, the hour's begin. Of all other types but the blind ones, it speaks from `complete_since` on.
alter table cuadre.completeness add column types_since jsonb not null default '{}';
