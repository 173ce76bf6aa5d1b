CREATE TABLE `avro_flights` (
  `carrier` STRING NOT NULL,
  `ms` BIGINT,
  `ts` AS TO_TIMESTAMP_LTZ(ms, 3),
  WATERMARK FOR `ts` AS `ts`
) WITH (
  'connector' = 'kafka',
  'topic' = 'avro',
  'properties.bootstrap.servers' = 'broker:9092',
  'properties.group.id' = 'features',
  'scan.startup.mode' = 'timestamp',
  'scan.startup.timestamp-millis' = '1700000000000',
  'format' = 'avro-confluent',
  'avro-confluent.url' = 'http://registry:8081'
)
