"""Papers, claim by claim: what each says, what it published, what a model at hand shows, and the rule for a verdict."""
