CREATE TABLE `iso_times` (
  `ts` TIMESTAMP(3),
  `n` INT
) WITH (
  'connector' = 'kafka',
  'topic' = 'iso',
  'properties.bootstrap.servers' = 'broker:9092',
  'properties.group.id' = 'features',
  'scan.startup.mode' = 'latest-offset',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
)
