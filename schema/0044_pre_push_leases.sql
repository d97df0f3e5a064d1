-- Who held pushers and went away without letting go is found by this.
CREATE INDEX pushers_held ON pushers (until) WHERE holder IS NOT NULL;
