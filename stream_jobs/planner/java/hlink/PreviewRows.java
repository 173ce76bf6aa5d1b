package hlink;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.flink.api.common.JobID;
import org.apache.flink.types.RowKind;

/**
 * What a previewed job has written so far, by sink, as JSON: changes are applied, so that each row is in its last state.
 *
 * <p>Of a sink with a primary key the last row of each key stays; of one without, rows that were taken back go.
 */
final class PreviewRows {
    private static final int MOST_ROWS = 10_000;
    private static final Map<JobID, PreviewRows> BY_JOB = new ConcurrentHashMap<>();

    private final Map<String, Collected> bySink = new LinkedHashMap<>();

    private static final class Collected {
        final Map<List<String>, String> byKey = new LinkedHashMap<>();
        final List<String> rows = new ArrayList<>();
        boolean more;
    }

    static PreviewRows of(JobID job) {
        return BY_JOB.computeIfAbsent(job, any -> new PreviewRows());
    }

    static void forget(JobID job) {
        BY_JOB.remove(job);
    }

    synchronized void take(String sink, RowKind kind, List<String> key, byte[] json) {
        Collected collected = bySink.computeIfAbsent(sink, any -> new Collected());
        String row = new String(json, StandardCharsets.UTF_8);
        boolean takenBack = kind == RowKind.UPDATE_BEFORE || kind == RowKind.DELETE;
        if (takenBack && key.isEmpty()) {
            collected.rows.remove(row);
        } else if (kind == RowKind.DELETE) {
            collected.byKey.remove(key);
        } else if (takenBack) {
            return; // the row that follows takes its place
        } else if (!key.isEmpty() && (collected.byKey.size() < MOST_ROWS || collected.byKey.containsKey(key))) {
            collected.byKey.put(key, row);
        } else if (key.isEmpty() && collected.rows.size() < MOST_ROWS) {
            collected.rows.add(row);
        } else {
            collected.more = true;
        }
    }

    /** Whether each of the sinks has that many rows that will not change any more. */
    synchronized boolean full(int sinks, int limit) {
        return bySink.size() == sinks && bySink.values().stream().allMatch(one -> one.rows.size() >= limit);
    }

    /** By sink: the first rows, and how many there are; {@code more} where rows were left out. */
    synchronized Map<String, Object> first(int limit) {
        Map<String, Object> described = new LinkedHashMap<>();
        bySink.forEach(
                (sink, collected) -> {
                    List<String> all = new ArrayList<>(collected.rows);
                    all.addAll(collected.byKey.values());
                    List<String> shown = all.subList(0, Math.min(limit, all.size()));
                    boolean more = collected.more || all.size() > shown.size();
                    described.put(sink, Map.of("rows", shown, "more", more));
                });
        return described;
    }
}
