CREATE TABLE `delays` (
  `carrier` STRING,
  `name` STRING,
  `mean` DOUBLE
) WITH (
  'connector' = 'kafka',
  'topic' = 'delays',
  'properties.bootstrap.servers' = 'broker:9092',
  'sink.partitioner' = 'round-robin',
  'format' = 'json',
  'json.timestamp-format.standard' = 'SQL'
)
