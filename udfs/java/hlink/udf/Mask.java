package hlink.udf;

import org.apache.flink.table.functions.ScalarFunction;

/**
 * {@code MASK(value)} or {@code MASK(value, first, last)}: the text with all but its first and last characters as stars;
 * none and four are kept when nothing is said. A text that is not longer than what is kept becomes stars as a whole.
 */
public final class Mask extends ScalarFunction {
    public String eval(String value) {
        return eval(value, 0, 4);
    }

    public String eval(String value, Integer first, Integer last) {
        if (value == null || first == null || last == null) {
            return null;
        }
        int length = value.codePointCount(0, value.length());
        int before = Math.max(first, 0);
        int after = Math.max(last, 0);
        if (length <= (long) before + after) {
            return "*".repeat(length);
        }
        return value.substring(0, value.offsetByCodePoints(0, before))
                + "*".repeat(length - before - after)
                + value.substring(value.offsetByCodePoints(value.length(), -after));
    }
}
