CREATE TABLE `mixed_times` (
  `at` TIMESTAMP_LTZ(3),
  `payload` ROW<`ms` TIMESTAMP(3), `n` INT>,
  `legs` ARRAY<ROW<`left` TIMESTAMP(3)>>,
  WATERMARK FOR `at` AS `at`
) WITH (
  'connector' = 'kafka',
  'topic' = 'mixed',
  'properties.bootstrap.servers' = 'broker:9092',
  'properties.group.id' = 'features',
  'scan.startup.mode' = 'latest-offset',
  'format' = 'hlink-json',
  'hlink-json.on-error' = 'fail',
  'hlink-json.times' = '{"at": "auto", "payload": {"ms": "epoch-millis"}, "legs": {"left": "auto"}}'
)
