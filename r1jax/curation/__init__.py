"""Making training sets of sampled responses: judges, refiners, filters, decontamination, data sets with provenance."""
