"""What the features of a model do: statistics by stage and domain, and what an adapter changed."""
