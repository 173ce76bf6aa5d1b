INSERT INTO `delays` SELECT carrier, pilot, delay FROM (
  SELECT f.carrier, `p`.`carrier`, `p`.`pilot`, delay FROM flights f LEFT JOIN pilots FOR SYSTEM_TIME AS OF `f`.`departure` p ON f.carrier = p.carrier
) AS x (carrier, again, pilot, delay)
