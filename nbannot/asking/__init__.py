"""One question and its answer: prompts, requests and replies, answers, the ledger."""
