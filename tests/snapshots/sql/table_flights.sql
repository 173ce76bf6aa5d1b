CREATE TABLE `flights` (
  `carrier` STRING,
  `delay` DOUBLE COMMENT 'minutes, the pilot''s word',
  `departure` TIMESTAMP(3),
  `plane` ROW<`tail` STRING, `engines` INT>,
  `legs` ARRAY<ROW<`origin` STRING, `miles` INT>>,
  `tags` ARRAY<STRING>,
  `seen` AS PROCTIME(),
  WATERMARK FOR `departure` AS `departure` - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'flights',
  'properties.bootstrap.servers' = 'broker:9092',
  'properties.group.id' = 'features',
  'scan.startup.mode' = 'earliest-offset',
  'scan.watermark.idle-timeout' = '10000 ms',
  'format' = 'json',
  'json.timestamp-format.standard' = 'SQL'
)
