-- Whose words retention or an erasure took is not judged by their absence.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS words_gone UInt8 DEFAULT startsWith(event_id, 'erased-') COMMENT '1: its words were taken away by retention or an erasure' AFTER attributes
--------
ALTER TABLE interaction_results
    ADD COLUMN IF NOT EXISTS words_gone UInt8 COMMENT '1: words of it were taken away by retention or an erasure; what was judged before stands' AFTER answer
