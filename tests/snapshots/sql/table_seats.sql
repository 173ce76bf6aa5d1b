CREATE TABLE `seats` (
  `tail` STRING,
  `seats` STRING,
  PRIMARY KEY (`tail`) NOT ENFORCED
) WITH (
  'connector' = 'redis',
  'host' = 'redis',
  'port' = '6379',
  'dbNum' = '2',
  'password' = '${secret:seats.password}',
  'cache' = 'LRU',
  'cacheSize' = '100000',
  'cacheTTLMs' = '60000'
)
