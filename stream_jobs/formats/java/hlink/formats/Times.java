package hlink.formats;

import java.time.DateTimeException;
import java.time.LocalDate;
import java.util.Locale;
import org.apache.flink.table.data.TimestampData;

/**
 * How messages spell a time. Read by hand: a formatter would cost more than the rest of the message.
 *
 * <p>A time without an offset is the clock's as TIMESTAMP and UTC as TIMESTAMP_LTZ; one with an offset is UTC's clock as
 * TIMESTAMP. For both that is one number.
 */
enum Times {
    RFC3339,
    ISO_LOCAL,
    SQL,
    EPOCH_MILLIS,
    EPOCH_SECONDS,
    AUTO;

    /** From here on a number of unknown unit is milliseconds: in seconds it is the year 5138. */
    private static final long SMALLEST_MILLIS = 100_000_000_000L;
    private static final int[] POWERS = {1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000};

    static Times named(String word) {
        return valueOf(word.toUpperCase(Locale.ROOT).replace('-', '_'));
    }

    /**
     * The time that a text says, cut to that many digits after the second.
     *
     * @throws IllegalArgumentException it says none in this spelling; the message names {@code place}
     */
    TimestampData read(String text, int digits, String place) {
        String trimmed = text.strip();
        try {
            TimestampData found = isNumber(trimmed) ? epoch(trimmed, digits) : calendar(trimmed, digits);
            if (found != null) {
                return found;
            }
        } catch (DateTimeException | ArithmeticException e) {
            // Not a day that there is, or a number beyond all bounds: told as any other text that is no time.
        }
        String shown = text.length() > 60 ? text.substring(0, 60) + "..." : text;
        String spelling = this == AUTO ? "" : " in the spelling " + name().toLowerCase(Locale.ROOT).replace('_', '-');
        throw new IllegalArgumentException("column " + place + ": '" + shown + "' is not a time" + spelling);
    }

    /** Milliseconds since midnight: the clock's, or UTC's where the text has an offset. */
    static int timeOfDay(String text, String place) {
        try {
            TimestampData found = AUTO.calendar("1970-01-01T" + text.strip(), 3);
            if (found != null) {
                return (int) Math.floorMod(found.getMillisecond(), 86_400_000L);
            }
        } catch (DateTimeException | ArithmeticException e) {
            // Told as any other text that is no time.
        }
        throw new IllegalArgumentException("column " + place + ": '" + text + "' is not a time of day");
    }

    private static boolean isNumber(String text) {
        int length = text.length();
        if (length == 0 || (length > 4 && text.charAt(4) == '-')) {
            return false;
        }
        for (int i = text.charAt(0) == '-' ? 1 : 0; i < length; i++) {
            char c = text.charAt(i);
            if ((c < '0' || c > '9') && c != '.') {
                return false;
            }
        }
        return true;
    }

    private TimestampData epoch(String text, int digits) {
        if (this != EPOCH_MILLIS && this != EPOCH_SECONDS && this != AUTO) {
            return null;
        }
        int point = text.indexOf('.');
        String whole = point < 0 ? text : text.substring(0, point);
        if (whole.isEmpty() || whole.equals("-") || whole.length() > 18 || text.indexOf('.', point + 1) > point && point >= 0) {
            return null;
        }
        long number = Long.parseLong(whole);
        boolean millis = this == EPOCH_MILLIS || this == AUTO && Math.abs(number) >= SMALLEST_MILLIS;
        long unit = millis ? 1_000_000 : 1_000_000_000;
        if (point < 0) {
            return timestamp(number, unit, digits);
        }
        long perSecond = 1_000_000_000 / unit;
        long fraction = nanos(text, point + 1, text.length()) / perSecond;
        long nano = Math.floorMod(number, perSecond) * unit + (whole.charAt(0) == '-' ? -fraction : fraction);
        long second = Math.floorDiv(number, perSecond) + Math.floorDiv(nano, 1_000_000_000L);
        return clock(second, Math.floorMod(nano, 1_000_000_000L), digits);
    }

    /** The time that is so many units of {@code nanos} nanoseconds after 1970, cut to that many digits. */
    static TimestampData timestamp(long number, long nanos, int digits) {
        long perSecond = 1_000_000_000 / nanos;
        return clock(Math.floorDiv(number, perSecond), Math.floorMod(number, perSecond) * nanos, digits);
    }

    private TimestampData calendar(String text, int digits) {
        int length = text.length();
        if (length < 16 || text.charAt(4) != '-' || text.charAt(7) != '-' || text.charAt(13) != ':') {
            return null;
        }
        char separator = text.charAt(10);
        boolean iso = separator == 'T' || separator == 't';
        if (!iso && separator != ' ') {
            return null;
        }
        int year = number(text, 0, 4), month = number(text, 5, 7), day = number(text, 8, 10);
        int hour = number(text, 11, 13), minute = number(text, 14, 16), second = 0;
        int at = 16;
        long nano = 0;
        if (at < length && text.charAt(at) == ':') {
            second = number(text, 17, 19);
            at = 19;
            if (at < length && (text.charAt(at) == '.' || text.charAt(at) == ',')) {
                int end = at + 1;
                while (end < length && Character.digit(text.charAt(end), 10) >= 0) {
                    end++;
                }
                nano = nanos(text, at + 1, end);
                at = end;
            }
        }
        int offset = offset(text, at);
        boolean zoned = at < length;
        if ((year | month | day | hour | minute | second) < 0 || nano < 0 || offset == NO_OFFSET) {
            return null;
        }
        if (hour > 23 || minute > 59 || second > 59 || !takes(iso, zoned)) {
            return null;
        }
        long days = LocalDate.of(year, month, day).toEpochDay();
        return clock(days * 86_400 + hour * 3_600L + minute * 60L + second - offset, nano, digits);
    }

    private boolean takes(boolean iso, boolean zoned) {
        switch (this) {
            case AUTO:
                return true;
            case RFC3339:
                return zoned;
            case ISO_LOCAL:
                return iso && !zoned;
            case SQL:
                return !iso && !zoned;
            default:
                return false;
        }
    }

    private static final int NO_OFFSET = Integer.MIN_VALUE;

    /** Seconds east of UTC that the text says from there on: nothing, Z, +08:00, +0800 or +08. */
    private static int offset(String text, int from) {
        int length = text.length();
        int at = from < length && text.charAt(from) == ' ' ? from + 1 : from;
        if (from == length || at == length - 1 && (text.charAt(at) == 'Z' || text.charAt(at) == 'z')) {
            return 0;
        }
        char sign = at < length ? text.charAt(at) : ' ';
        int rest = length - at;
        boolean colon = rest == 6 && text.charAt(at + 3) == ':';
        if ((sign != '+' && sign != '-') || (rest != 3 && rest != 5 && !colon)) {
            return NO_OFFSET;
        }
        int hours = number(text, at + 1, at + 3);
        int minutes = rest == 3 ? 0 : number(text, length - 2, length);
        if (hours < 0 || hours > 18 || minutes < 0 || minutes > 59) {
            return NO_OFFSET;
        }
        return (sign == '-' ? -1 : 1) * (hours * 3_600 + minutes * 60);
    }

    /** The digits as a number, -1 where one of them is none. */
    private static int number(String text, int from, int to) {
        if (to > text.length()) {
            return -1;
        }
        int found = 0;
        for (int i = from; i < to; i++) {
            int digit = text.charAt(i) - '0';
            if (digit < 0 || digit > 9) {
                return -1;
            }
            found = found * 10 + digit;
        }
        return found;
    }

    private static long nanos(String text, int from, int to) {
        int used = Math.min(to, from + 9);
        return from == to ? -1 : (long) number(text, from, used) * POWERS[9 - (used - from)];
    }

    private static TimestampData clock(long second, long nano, int digits) {
        long kept = nano - nano % POWERS[9 - digits];
        long millis = Math.addExact(Math.multiplyExact(second, 1_000L), kept / 1_000_000);
        return TimestampData.fromEpochMillis(millis, (int) (kept % 1_000_000));
    }
}
