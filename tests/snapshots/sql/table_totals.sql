CREATE TABLE `totals` (
  `carrier` STRING,
  `n` BIGINT,
  PRIMARY KEY (`carrier`) NOT ENFORCED
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:postgresql://db:5432/air',
  'table-name' = 'totals',
  'username' = 'reader',
  'password' = '${secret:totals.password}',
  'sink.buffer-flush.max-rows' = '100',
  'sink.buffer-flush.interval' = '500 ms',
  'sink.max-retries' = '3'
)
