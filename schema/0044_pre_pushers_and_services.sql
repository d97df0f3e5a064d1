-- Who held pushers and went away without letting go is found by this.
CREATE INDEX pushers_held ON pushers (until) WHERE holder IS NOT NULL;

-- Registrations that an administrator added; what the files say leaves them alone.
ALTER TABLE appservices ADD COLUMN by_admin boolean NOT NULL DEFAULT false;
