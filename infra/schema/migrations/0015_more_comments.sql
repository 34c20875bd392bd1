-- What the columns of stations, senders and notifications mean.
ALTER TABLE cluster_lineage
    COMMENT COLUMN environment 'deployment environment',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN at 'event time of the decision',
    COMMENT COLUMN cluster 'id of the cluster',
    COMMENT COLUMN source 'cluster that it came from'
--------
ALTER TABLE cluster_members
    COMMENT COLUMN environment 'deployment environment',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN cell '10 s cell in which the interaction ended',
    COMMENT COLUMN interaction_id 'the interaction',
    COMMENT COLUMN version 'higher replaces lower'
--------
ALTER TABLE clusters
    COMMENT COLUMN environment 'deployment environment',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN cluster 'id that lasts',
    COMMENT COLUMN version 'higher replaces lower',
    COMMENT COLUMN first_seen 'event time of its first failure',
    COMMENT COLUMN last_seen 'event time of its latest failure',
    COMMENT COLUMN merged_into 'cluster that took it over; empty while it stands',
    COMMENT COLUMN parents 'clusters it came from',
    COMMENT COLUMN reason 'most frequent reason',
    COMMENT COLUMN tool 'most frequent tool',
    COMMENT COLUMN agent_versions 'versions in which it was seen'
--------
ALTER TABLE finding_actions
    COMMENT COLUMN at 'when people decided',
    COMMENT COLUMN note 'why, in the words of who decided'
--------
ALTER TABLE findings
    COMMENT COLUMN signal 'what is watched: a name of processors/signals.py',
    COMMENT COLUMN attribute 'slice: tool, model, reason, agent_version, cluster or empty',
    COMMENT COLUMN value 'value of the slice',
    COMMENT COLUMN label 'name of the value for people',
    COMMENT COLUMN tool 'most frequent tool',
    COMMENT COLUMN cluster 'id of the cluster',
    COMMENT COLUMN low 'lower end of the interval of the observed value',
    COMMENT COLUMN high 'upper end of the interval of the observed value',
    COMMENT COLUMN unit 'unit of baseline and observed'
--------
ALTER TABLE ignored_records
    COMMENT COLUMN minute 'minute in which they arrived',
    COMMENT COLUMN source 'process that counted them',
    COMMENT COLUMN service 'service.name of the sender',
    COMMENT COLUMN scope 'instrumentation scope',
    COMMENT COLUMN name 'name of the log record',
    COMMENT COLUMN reason 'why they are no events',
    COMMENT COLUMN records 'how many'
--------
ALTER TABLE notifications
    COMMENT COLUMN receiver 'name of the receiver',
    COMMENT COLUMN version 'higher replaces lower',
    COMMENT COLUMN severity 'page or notice',
    COMMENT COLUMN planned 'when to try next',
    COMMENT COLUMN attempts 'tries so far',
    COMMENT COLUMN headline 'what was said, in one line',
    COMMENT COLUMN lines 'what was said, in full'
--------
ALTER TABLE regression_results
    COMMENT COLUMN case_id 'regression case',
    COMMENT COLUMN agent_version 'version of the agent',
    COMMENT COLUMN at 'event time of the decision',
    COMMENT COLUMN passed '1 when the agent passed it',
    COMMENT COLUMN source 'file or traffic that said so'
--------
ALTER TABLE silences
    COMMENT COLUMN id 'id of the silence',
    COMMENT COLUMN starts 'from when',
    COMMENT COLUMN ends 'until when',
    COMMENT COLUMN comment 'why'
--------
ALTER TABLE station_changes
    COMMENT COLUMN station 'name of the station',
    COMMENT COLUMN signal 'what is watched: a name of processors/signals.py',
    COMMENT COLUMN direction 'up or down',
    COMMENT COLUMN environment 'deployment environment',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN began 'estimated start, event time',
    COMMENT COLUMN found 'when it was decided, event time',
    COMMENT COLUMN e_value 'factor by which the data speak against no change',
    COMMENT COLUMN baseline 'value before',
    COMMENT COLUMN observed 'value since',
    COMMENT COLUMN low 'lower end of the interval of the observed value',
    COMMENT COLUMN high 'upper end of the interval of the observed value',
    COMMENT COLUMN unit 'unit of baseline and observed',
    COMMENT COLUMN n 'observations since it began'
--------
ALTER TABLE station_progress
    COMMENT COLUMN station 'name of the station',
    COMMENT COLUMN bucket 'share of the agents, or fleet',
    COMMENT COLUMN version 'higher replaces lower',
    COMMENT COLUMN updated 'when it was written'
--------
ALTER TABLE station_read
    COMMENT COLUMN bucket 'share of the agents, or fleet',
    COMMENT COLUMN hour 'hour of event time',
    COMMENT COLUMN version 'higher replaces lower',
    COMMENT COLUMN interactions 'results read of this hour'
--------
ALTER TABLE station_state
    COMMENT COLUMN station 'name of the station',
    COMMENT COLUMN version 'higher replaces lower'
--------
ALTER TABLE verdicts
    COMMENT COLUMN environment 'deployment environment',
    COMMENT COLUMN agent 'name of the agent',
    COMMENT COLUMN baseline 'version that it is compared with',
    COMMENT COLUMN candidate 'version that is compared',
    COMMENT COLUMN measure 'what is compared',
    COMMENT COLUMN version 'higher replaces lower',
    COMMENT COLUMN at 'event time of the decision',
    COMMENT COLUMN effect 'difference, candidate minus baseline',
    COMMENT COLUMN low 'lower end of the interval of the effect',
    COMMENT COLUMN high 'upper end of the interval of the effect',
    COMMENT COLUMN unit 'unit of the effect',
    COMMENT COLUMN n_baseline 'observations of the baseline',
    COMMENT COLUMN n_candidate 'observations of the candidate'
