-- What the provider's list said of an order when it was marked due for that.

-- The latest change that the list told of. A list may date a change later than the order itself does, for ever; once a
-- look that began after the mark has read the order, the list's date tells nothing new.
alter table cuadre.sync add column listed_updated_at timestamptz;
