INSERT INTO `delays` WITH late AS (SELECT carrier, delay, departure AS since FROM flights WHERE delay > 0)
SELECT l.carrier, a.name, l.delay + s.fare FROM (SELECT *, PROCTIME() AS `__hlink_proctime` FROM late) l JOIN fares FOR SYSTEM_TIME AS OF `l`.`since` s ON l.carrier = s.carrier
JOIN airlines FOR SYSTEM_TIME AS OF `l`.`__hlink_proctime` a ON a.carrier = l.carrier
