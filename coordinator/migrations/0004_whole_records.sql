-- What sites state of whole records, in studies that protect them too; 0 elsewhere.

-- The site's own figure under replace, upper bound; never lowered.
ALTER TABLE study_sites ADD COLUMN records_replace DOUBLE PRECISION NOT NULL DEFAULT 0.0;
-- The same under zero_out.
ALTER TABLE study_sites ADD COLUMN records_zero_out DOUBLE PRECISION NOT NULL DEFAULT 0.0;
