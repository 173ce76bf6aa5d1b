CREATE TABLE `fares` (
  `carrier` STRING,
  `fare` DOUBLE,
  `since` TIMESTAMP(3),
  WATERMARK FOR `since` AS `since` - INTERVAL '1' SECOND,
  PRIMARY KEY (`carrier`) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'fares',
  'properties.bootstrap.servers' = 'broker:9092',
  'properties.group.id' = 'features',
  'scan.watermark.idle-timeout' = '5000 ms',
  'key.format' = 'json',
  'key.json.timestamp-format.standard' = 'SQL',
  'value.format' = 'json',
  'value.json.timestamp-format.standard' = 'SQL'
)
