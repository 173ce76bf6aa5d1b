CREATE TABLE `latest` (
  `carrier` STRING,
  `n` BIGINT,
  PRIMARY KEY (`carrier`) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'latest',
  'properties.bootstrap.servers' = 'broker:9092',
  'key.format' = 'json',
  'key.json.timestamp-format.standard' = 'SQL',
  'value.format' = 'json',
  'value.json.timestamp-format.standard' = 'SQL'
)
