CREATE TABLE `exact` (
  `carrier` STRING,
  `at` TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'exact',
  'properties.bootstrap.servers' = 'broker:9092',
  'sink.partitioner' = 'fixed',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'hlink-7-exact',
  'properties.transaction.timeout.ms' = '600000',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
)
