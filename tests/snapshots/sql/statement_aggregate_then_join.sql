INSERT INTO `delays` SELECT w.carrier, a.name, w.mean FROM (SELECT *, PROCTIME() AS `__hlink_proctime` FROM (
  SELECT carrier, AVG(delay) AS mean FROM TUMBLE(TABLE flights, DESCRIPTOR(departure), INTERVAL '1' HOUR)
  GROUP BY carrier, window_start, window_end
)) w LEFT JOIN airlines FOR SYSTEM_TIME AS OF `w`.`__hlink_proctime` a ON a.carrier = w.carrier
