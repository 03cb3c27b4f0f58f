"""Cached embeddings and answers: tiers from near to far behind one `Tiered` (DESIGN §11, EnterpriseCache)."""
