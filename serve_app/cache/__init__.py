"""Answers kept near: tiers of growing size and distance behind one `Tiered` (DESIGN §11, EnterpriseCache)."""
