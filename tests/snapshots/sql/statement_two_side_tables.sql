INSERT INTO `delays` SELECT f.carrier, a.name, p.built + 0E0 FROM (SELECT *, PROCTIME() AS `__hlink_proctime` FROM flights) AS f
JOIN airlines FOR SYSTEM_TIME AS OF `f`.`__hlink_proctime` AS a ON a.carrier = f.carrier LEFT JOIN planes FOR SYSTEM_TIME AS OF `f`.`__hlink_proctime` p ON p.tail = f.plane.tail AND p.built > 1990
