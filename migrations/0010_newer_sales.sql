-- What is newer on a printed QR or a terminal is asked in one place: an older sale is never put there over it.

-- Where a command shows its sale to every buyer: the printed QR of its point of sale (`qr`), whichever API puts it there,
-- or its terminal (`point`). Null where it shows none; a dynamic order's QR is its own.
create function cuadre.shown_on(kind text, type text, options jsonb) returns text
    language sql immutable parallel safe
    return case
        when kind = 'legacy_put' then 'qr'
        when kind = 'create' and type in ('qr', 'point') and not options ? 'dynamic' then type
    end;

-- The sales asked after `command_id` that may stand where that one is shown (`surface`, see above): they may have been
-- sent, and were not refused. A function of one query, so that the planner takes it into the query that asks.
create function cuadre.newer_sales(
    account text, point_of_sale text, surface text, asked_at timestamptz, command_id text
) returns table (status text, leased_until timestamptz)
    language sql stable parallel safe
begin atomic
    select later.status, later.leased_until
    from cuadre.commands as later
    where later.account = newer_sales.account and later.point_of_sale = newer_sales.point_of_sale
      and later.asked_at >= newer_sales.asked_at
      and (later.asked_at, later.command_id) > (newer_sales.asked_at, newer_sales.command_id)
      -- `shown_on` once more, in words that the planner has statistics for: it then stops at the first one.
      and (later.kind = 'legacy_put' and newer_sales.surface = 'qr'
           or later.kind = 'create' and later.type = newer_sales.surface and not later.options ? 'dynamic')
      and later.maybe_sent_at is not null and later.status not in ('withdrawn', 'refused');
end;
