CREATE TABLE `pilots` (
  `carrier` STRING,
  `pilot` STRING,
  `__hlink_always` AS CAST(TIMESTAMP '1970-01-02 00:00:00' AS TIMESTAMP(3)),
  WATERMARK FOR `__hlink_always` AS CAST(TIMESTAMP '9999-12-31 00:00:00' AS TIMESTAMP(3)),
  PRIMARY KEY (`carrier`) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'pilots',
  'properties.bootstrap.servers' = 'broker:9092',
  'properties.group.id' = 'features',
  'key.format' = 'raw',
  'value.format' = 'json',
  'value.json.timestamp-format.standard' = 'SQL'
)
