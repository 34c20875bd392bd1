-- What every column means, where the tables themselves do not say it yet.
ALTER TABLE alert_events
    COMMENT COLUMN ts 'when it was written',
    COMMENT COLUMN alert_key 'stream that changed',
    COMMENT COLUMN kind 'which detector',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN severity 'how urgent',
    COMMENT COLUMN status 'firing or resolved',
    COMMENT COLUMN score 'e-value',
    COMMENT COLUMN title 'what happened, in one line',
    COMMENT COLUMN description 'how sure, and what fails most',
    COMMENT COLUMN episode_start 'when it began, event time',
    COMMENT COLUMN event_time 'event time that decided'
--------
ALTER TABLE collisions
    COMMENT COLUMN event_id 'id of the event, given by its sender',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN time 'event time, UTC',
    COMMENT COLUMN payload_hash 'hash of the event''s content; the same id with another hash is a collision',
    COMMENT COLUMN found 'when the collision was seen'
--------
ALTER TABLE current_evaluations
    COMMENT COLUMN target 'interaction_id or session_id that is judged',
    COMMENT COLUMN kind 'feedback, score or outcome',
    COMMENT COLUMN name 'name of the tool, evaluator or kind of feedback',
    COMMENT COLUMN user_id 'who judged, empty for a program',
    COMMENT COLUMN value 'number given, null when only words were',
    COMMENT COLUMN reason 'code of the reason, such as no_refund',
    COMMENT COLUMN time 'when the one that counts was given, UTC'
--------
ALTER TABLE dead_letter_originals
    COMMENT COLUMN log_id 'id of the Kafka log: a topic made anew is another log',
    COMMENT COLUMN topic 'Kafka topic',
    COMMENT COLUMN partition 'Kafka partition',
    COMMENT COLUMN offset 'Kafka offset of the record',
    COMMENT COLUMN line 'line within the record, from 0',
    COMMENT COLUMN original 'the untouched line',
    COMMENT COLUMN expires 'when it is deleted'
--------
ALTER TABLE dead_letter_replays
    COMMENT COLUMN log_id 'id of the Kafka log: a topic made anew is another log',
    COMMENT COLUMN topic 'Kafka topic',
    COMMENT COLUMN partition 'Kafka partition',
    COMMENT COLUMN offset 'Kafka offset of the record',
    COMMENT COLUMN line 'line within the record, from 0',
    COMMENT COLUMN event_id 'id under which it was sent again',
    COMMENT COLUMN replayed 'when it was sent again'
--------
ALTER TABLE dead_letters
    COMMENT COLUMN log_id 'id of the Kafka log: a topic made anew is another log',
    COMMENT COLUMN topic 'Kafka topic',
    COMMENT COLUMN partition 'Kafka partition',
    COMMENT COLUMN offset 'Kafka offset of the record',
    COMMENT COLUMN line 'line within the record, from 0',
    COMMENT COLUMN code 'why the line is not an event',
    COMMENT COLUMN detail 'what exactly is wrong',
    COMMENT COLUMN bytes 'size of the line',
    COMMENT COLUMN sha256 'SHA-256 of the line',
    COMMENT COLUMN environment 'environment the line names, if any',
    COMMENT COLUMN agent 'agent the line names, if any',
    COMMENT COLUMN kept 'what text is: whole, redacted, masked, cut, binary, or empty',
    COMMENT COLUMN text 'what is kept of the line',
    COMMENT COLUMN ingested 'when it was refused'
--------
ALTER TABLE detector_state
    COMMENT COLUMN stream 'what is watched',
    COMMENT COLUMN position 'how far event time was read',
    COMMENT COLUMN version 'of rows with the same key the one with the highest version counts',
    COMMENT COLUMN state 'what the detector needs to go on'
--------
ALTER TABLE dimension_values
    COMMENT COLUMN dimension 'environment, agent, agent_version or scope',
    COMMENT COLUMN value 'name',
    COMMENT COLUMN admitted 'when it was decided on',
    COMMENT COLUMN refused '1: counted under __other__'
--------
ALTER TABLE evaluations
    COMMENT COLUMN target 'interaction_id or session_id that is judged',
    COMMENT COLUMN kind 'feedback, score or outcome',
    COMMENT COLUMN name 'name of the tool, evaluator or kind of feedback',
    COMMENT COLUMN user_id 'pseudonym of the user, empty when not known',
    COMMENT COLUMN time 'event time, UTC',
    COMMENT COLUMN event_id 'id of the event, given by its sender',
    COMMENT COLUMN payload_hash 'hash of the event''s content; the same id with another hash is a collision',
    COMMENT COLUMN environment 'of the event; the target may have another',
    COMMENT COLUMN agent 'of the event; the target may have another',
    COMMENT COLUMN value 'number given, null when only words were',
    COMMENT COLUMN reason 'code of the reason, such as no_refund',
    COMMENT COLUMN rule_version 'version of the rule or judge that gave it'
--------
ALTER TABLE events
    COMMENT COLUMN schema_version 'version of the event''s schema',
    COMMENT COLUMN environment 'deployment environment, such as production',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN agent_version 'version of the agent, empty when not known',
    COMMENT COLUMN time 'when it was complete, UTC; it began duration_ms earlier',
    COMMENT COLUMN event_id 'id of the event, given by its sender',
    COMMENT COLUMN payload_hash 'hash of the event''s content; the same id with another hash is a collision',
    COMMENT COLUMN session_id 'conversation it belongs to',
    COMMENT COLUMN interaction_id 'request it belongs to; empty on feedback that names a session',
    COMMENT COLUMN parent_id 'event_id of the event that caused it',
    COMMENT COLUMN user_id 'pseudonym of the user, empty when not known',
    COMMENT COLUMN kind 'what the event is: interaction, user_message, agent_message, llm_call, tool_call, retrieval, decision, handoff, human_input, feedback, score, outcome, span',
    COMMENT COLUMN name 'tool, operation, evaluator or kind of feedback',
    COMMENT COLUMN model 'model that was called',
    COMMENT COLUMN status 'ok, error, or empty when not said',
    COMMENT COLUMN error_type 'short code of the error',
    COMMENT COLUMN error_message 'what the error said, redacted',
    COMMENT COLUMN error_template 'error message with ids, numbers, paths and quotes masked',
    COMMENT COLUMN duration_ms 'how long it took, ms',
    COMMENT COLUMN duration_bin 'bin of duration_ms in the log-histogram of detectors/sketch.py',
    COMMENT COLUMN time_to_first_token_ms 'from the call to the first token, ms',
    COMMENT COLUMN input_tokens 'tokens read, null when not said',
    COMMENT COLUMN output_tokens 'tokens written, null when not said',
    COMMENT COLUMN cached_tokens 'of the tokens read, those from a cache; null when not said',
    COMMENT COLUMN cache_write_tokens 'tokens written to a cache, null when not said',
    COMMENT COLUMN reasoning_tokens 'of the tokens written, those of reasoning; null when not said',
    COMMENT COLUMN cost_usd 'cost, US dollars, null when not known',
    COMMENT COLUMN content 'text: message, answer or comment, redacted',
    COMMENT COLUMN tool_arguments 'arguments of the tool call, redacted',
    COMMENT COLUMN tool_result 'result of the tool call, redacted',
    COMMENT COLUMN attributes 'other attributes: a JSON object of strings',
    COMMENT COLUMN value 'number of a feedback, score or outcome',
    COMMENT COLUMN reason 'code of the reason, such as no_refund',
    COMMENT COLUMN rule_version 'version of the rule or judge that gave it',
    COMMENT COLUMN target 'interaction_id or session_id that a feedback, score or outcome judges',
    COMMENT COLUMN log_id 'id of the Kafka log: a topic made anew is another log',
    COMMENT COLUMN partition 'Kafka partition',
    COMMENT COLUMN offset 'Kafka offset of the record',
    COMMENT COLUMN line 'line within the record, from 0'
--------
ALTER TABLE findings
    COMMENT COLUMN finding_id 'function of stream and begin',
    COMMENT COLUMN version 'of rows with the same key the one with the highest version counts',
    COMMENT COLUMN detector 'which detector',
    COMMENT COLUMN kind 'what kind of change',
    COMMENT COLUMN environment 'deployment environment, such as production',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN agent_version 'version of the agent, empty when not known',
    COMMENT COLUMN status 'open, acknowledged, recovered or regressed',
    COMMENT COLUMN severity 'how urgent',
    COMMENT COLUMN began 'when it began (estimate), event time',
    COMMENT COLUMN found 'when it was found, event time',
    COMMENT COLUMN ended 'when it ended, null while it lasts',
    COMMENT COLUMN e_value 'factor by which the data speak against no change',
    COMMENT COLUMN baseline 'level before',
    COMMENT COLUMN observed 'level since',
    COMMENT COLUMN n 'interactions it rests on',
    COMMENT COLUMN title 'what happened, in one line',
    COMMENT COLUMN evidence 'JSON: the failure groups behind it, before and since'
--------
ALTER TABLE heartbeats
    COMMENT COLUMN ts 'when',
    COMMENT COLUMN component 'part of driftline',
    COMMENT COLUMN instance 'process',
    COMMENT COLUMN detail 'what it said'
--------
ALTER TABLE interaction_cells
    COMMENT COLUMN cell '10 s cell of event time',
    COMMENT COLUMN interaction_id 'one user request to its final answer; for OTLP the trace id',
    COMMENT COLUMN version 'of rows with the same key the one with the highest version counts',
    COMMENT COLUMN root '2: closed by an event that nobody called, 1: by another, 0: not in this cell',
    COMMENT COLUMN environment 'deployment environment, such as production',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN agent_version 'version of the agent, empty when not known',
    COMMENT COLUMN session_id 'conversation it belongs to',
    COMMENT COLUMN user_id 'pseudonym of the user, empty when not known',
    COMMENT COLUMN start 'begin of the first event',
    COMMENT COLUMN end 'time of the last event',
    COMMENT COLUMN events 'number of events',
    COMMENT COLUMN llm_calls 'number of model calls',
    COMMENT COLUMN tool_calls 'number of tool calls and retrievals',
    COMMENT COLUMN tool_errors 'of them failed',
    COMMENT COLUMN input_tokens 'tokens read, sum',
    COMMENT COLUMN output_tokens 'tokens written, sum',
    COMMENT COLUMN cost_usd 'cost, US dollars',
    COMMENT COLUMN priced 'events with a cost',
    COMMENT COLUMN unpriced 'model calls with tokens and no price',
    COMMENT COLUMN closed 'time of the closing event',
    COMMENT COLUMN status 'ok, error, or empty when not said',
    COMMENT COLUMN error_type 'short code of the error',
    COMMENT COLUMN error_template 'error message with ids, numbers, paths and quotes masked',
    COMMENT COLUMN last_error 'time of the last other error',
    COMMENT COLUMN last_error_type 'its code',
    COMMENT COLUMN last_error_tool 'its tool',
    COMMENT COLUMN last_error_template 'its message, masked'
--------
ALTER TABLE interaction_results
    COMMENT COLUMN environment 'deployment environment, such as production',
    COMMENT COLUMN agent_version 'of the topmost agent span',
    COMMENT COLUMN user_id 'pseudonym of the user, empty when not known',
    COMMENT COLUMN start 'begin, UTC',
    COMMENT COLUMN events 'number of its events',
    COMMENT COLUMN llm_calls 'number of model calls',
    COMMENT COLUMN llm_errors 'of them failed',
    COMMENT COLUMN tool_errors 'of them failed',
    COMMENT COLUMN handoffs 'number of handoffs to another agent',
    COMMENT COLUMN human_inputs 'number of times a person was asked',
    COMMENT COLUMN output_tokens 'of its model calls, null when none says it',
    COMMENT COLUMN cached_tokens 'of the tokens read, those from a cache; null when none says it',
    COMMENT COLUMN dissatisfaction_low 'lower end of its 95 % interval',
    COMMENT COLUMN dissatisfaction_high 'upper end of its 95 % interval',
    COMMENT COLUMN models 'models that were called',
    COMMENT COLUMN tools 'tools that were called',
    COMMENT COLUMN language 'language of the request, empty when not known',
    COMMENT COLUMN rules_version 'version of the rules that decided'
--------
ALTER TABLE ledger
    COMMENT COLUMN log_id 'id of the Kafka log: a topic made anew is another log',
    COMMENT COLUMN topic 'Kafka topic',
    COMMENT COLUMN partition 'Kafka partition',
    COMMENT COLUMN offset 'Kafka offset of the record',
    COMMENT COLUMN lines 'lines in the record',
    COMMENT COLUMN rows 'of them stored as events',
    COMMENT COLUMN dead_lettered 'of them refused',
    COMMENT COLUMN late 'of the stored, after their window was sealed',
    COMMENT COLUMN ingested 'when the record was stored'
--------
ALTER TABLE rollups
    COMMENT COLUMN environment 'deployment environment, such as production',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN start 'begin of the minute, hour or day, UTC',
    COMMENT COLUMN agent_version 'version of the agent, empty when not known',
    COMMENT COLUMN version 'of rows with the same key the one with the highest version counts',
    COMMENT COLUMN n 'number of interactions or sessions',
    COMMENT COLUMN succeeded 'of them known to have succeeded',
    COMMENT COLUMN success_known 'of which success is known',
    COMMENT COLUMN duration_n 'of which the duration is known',
    COMMENT COLUMN duration_counts 'counts of duration_bins',
    COMMENT COLUMN first_token_n 'of which the time to the first token is known',
    COMMENT COLUMN first_token_bins 'log-histogram of the time to the first token, bins',
    COMMENT COLUMN first_token_counts 'counts of first_token_bins',
    COMMENT COLUMN steps 'model calls, tool calls, retrievals, decisions and handoffs',
    COMMENT COLUMN llm_calls 'number of model calls',
    COMMENT COLUMN llm_errors 'of them failed',
    COMMENT COLUMN tool_calls 'number of tool calls and retrievals',
    COMMENT COLUMN tool_errors 'of them failed',
    COMMENT COLUMN handoffs 'number of handoffs to another agent',
    COMMENT COLUMN human_inputs 'number of times a person was asked',
    COMMENT COLUMN input_tokens 'sum of what is known',
    COMMENT COLUMN output_tokens 'sum of what is known',
    COMMENT COLUMN cached_tokens 'sum of what is known',
    COMMENT COLUMN cost_usd 'sum of what is known, US dollars',
    COMMENT COLUMN dissatisfaction_n 'of which there is an estimate',
    COMMENT COLUMN reason_counts 'failures by reason, in the order of reasons'
--------
ALTER TABLE schema_migrations
    COMMENT COLUMN name 'file of the migration or view',
    COMMENT COLUMN checksum 'SHA-256 of the file',
    COMMENT COLUMN applied 'when'
--------
ALTER TABLE session_index
    COMMENT COLUMN session_id 'conversation it belongs to',
    COMMENT COLUMN cell '10 s cell of the interaction''s end',
    COMMENT COLUMN interaction_id 'one user request to its final answer; for OTLP the trace id'
--------
ALTER TABLE session_results
    COMMENT COLUMN session_id 'conversation it belongs to',
    COMMENT COLUMN agent 'of its first interaction',
    COMMENT COLUMN agent_version 'of its first interaction',
    COMMENT COLUMN user_id 'pseudonym of the user, empty when not known',
    COMMENT COLUMN start 'begin of its first interaction',
    COMMENT COLUMN interactions 'number of interactions',
    COMMENT COLUMN succeeded 'of them succeeded',
    COMMENT COLUMN failed 'of them failed',
    COMMENT COLUMN events 'number of events',
    COMMENT COLUMN llm_calls 'number of model calls',
    COMMENT COLUMN tool_calls 'number of tool calls and retrievals',
    COMMENT COLUMN tool_errors 'of them failed',
    COMMENT COLUMN input_tokens 'null when none is known',
    COMMENT COLUMN output_tokens 'null when none is known',
    COMMENT COLUMN success_source 'outcome, or that of the last interaction',
    COMMENT COLUMN reasons 'what went wrong, the primary reason first',
    COMMENT COLUMN failure_reason 'primary reason of a failed session',
    COMMENT COLUMN satisfaction_n 'how many feedbacks',
    COMMENT COLUMN dissatisfaction 'estimated probability that the user is dissatisfied',
    COMMENT COLUMN coverage 'share of the features that the estimate had, 0 to 1',
    COMMENT COLUMN rules_version 'version of the rules that decided'
--------
ALTER TABLE watermarks
    COMMENT COLUMN log_id 'id of the Kafka log: a topic made anew is another log',
    COMMENT COLUMN topic 'Kafka topic',
    COMMENT COLUMN partition 'Kafka partition',
    COMMENT COLUMN watermark 'how far event time has come',
    COMMENT COLUMN offset 'next offset to read',
    COMMENT COLUMN lag 'records waiting',
    COMMENT COLUMN marked 'per partition of the dirty topic the offset after the last mark',
    COMMENT COLUMN advanced 'when rows were last stored',
    COMMENT COLUMN updated 'when this was reported'
--------
ALTER TABLE windows
    COMMENT COLUMN environment 'deployment environment, such as production',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN width_s 'width of the window, s: 10, 60 or 3600; read one width only',
    COMMENT COLUMN start 'begin of the window, UTC',
    COMMENT COLUMN agent_version 'version of the agent, empty when not known',
    COMMENT COLUMN scope 'all, KIND:NAME or model:MODEL; read one only, they overlap',
    COMMENT COLUMN version 'of rows with the same key the one with the highest version counts',
    COMMENT COLUMN events 'number of events',
    COMMENT COLUMN ok 'events with status ok',
    COMMENT COLUMN error 'events with status error',
    COMMENT COLUMN tool_calls 'number of tool calls',
    COMMENT COLUMN tool_errors 'of them failed',
    COMMENT COLUMN input_tokens 'sum; 0 also when none is known',
    COMMENT COLUMN output_tokens 'sum; 0 also when none is known',
    COMMENT COLUMN cached_tokens 'sum; 0 also when none is known',
    COMMENT COLUMN cost_usd 'sum of the priced, US dollars; 0 also when none is',
    COMMENT COLUMN priced 'events with a cost',
    COMMENT COLUMN unpriced 'model calls with tokens and no price',
    COMMENT COLUMN duration_n 'events with a duration',
    COMMENT COLUMN duration_ms 'sum, ms',
    COMMENT COLUMN duration_bins 'log-histogram of duration_ms: bins of detectors/sketch.py',
    COMMENT COLUMN duration_counts 'log-histogram of duration_ms: counts of the bins'
