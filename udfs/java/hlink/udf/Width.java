package hlink.udf;

import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A length of time as people write it: {@code 15 minutes}, {@code 1 hour}, {@code 500 ms}. */
final class Width {
    private static final Pattern FORM = Pattern.compile("\\s*(\\d{1,12})\\s*([a-z]+?)s?\\s*", Pattern.CASE_INSENSITIVE);
    private static final Map<String, Long> UNITS =
            Map.of(
                    "m", 1L, // "ms", whose last letter counts as a plural's
                    "millisecond", 1L,
                    "second", 1_000L,
                    "minute", 60_000L,
                    "hour", 3_600_000L,
                    "day", 86_400_000L,
                    "week", 604_800_000L);

    private String text;
    private long millis;

    /** The length in milliseconds; the last text is remembered, since it is nearly always the same. */
    long millis(String wanted) {
        if (!wanted.equals(text)) {
            Matcher form = FORM.matcher(wanted);
            Long unit = form.matches() ? UNITS.get(form.group(2).toLowerCase(Locale.ROOT)) : null;
            if (unit == null || Long.parseLong(form.group(1)) == 0) {
                throw new IllegalArgumentException(
                        "'" + wanted + "' is not a length of time: write a number and ms, seconds, minutes, hours, days or weeks");
            }
            millis = Math.multiplyExact(Long.parseLong(form.group(1)), unit);
            text = wanted;
        }
        return millis;
    }
}
