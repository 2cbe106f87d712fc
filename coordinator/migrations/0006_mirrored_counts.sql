-- Charges of tables of counts are mirrored too, from the reports that arrive. Training is accounted without them.

-- 1: paid for a table of counts, as its report says; 0: paid for an update, as a receipt lists it.
ALTER TABLE mirror ADD COLUMN counts BIGINT NOT NULL DEFAULT 0;
