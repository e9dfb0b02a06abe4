"""People code: sessions that lose nothing, who codes what, adjudication, and the desk in the notebook."""
