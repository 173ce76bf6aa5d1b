package hlink;

import java.io.DataInputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.core.fs.FileStatus;
import org.apache.flink.core.fs.FileSystem;
import org.apache.flink.core.fs.Path;
import org.apache.flink.runtime.checkpoint.Checkpoints;
import org.apache.flink.runtime.checkpoint.OperatorState;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.runtime.checkpoint.metadata.CheckpointMetadata;
import org.apache.flink.runtime.state.CompletedCheckpointStorageLocation;
import org.apache.flink.runtime.state.IncrementalRemoteKeyedStateHandle;
import org.apache.flink.runtime.state.KeyGroupsSavepointStateHandle;
import org.apache.flink.runtime.state.KeyGroupsStateHandle;
import org.apache.flink.runtime.state.KeyedStateHandle;
import org.apache.flink.runtime.state.OperatorStateHandle;
import org.apache.flink.runtime.state.StreamStateHandle;
import org.apache.flink.runtime.state.filesystem.AbstractFsCheckpointStorageAccess;

/** What the files of a savepoint or retained checkpoint say of it; and their end. */
final class SavepointFiles {
    private static final Pattern CHECKPOINT = Pattern.compile("chk-(\\d{1,18})");
    private static final Pattern OWN = Pattern.compile("[0-9a-f]{32}");

    private final Map<Path, Long> sizes = new LinkedHashMap<>();

    private SavepointFiles() {}

    /**
     * Reads the metadata and looks for every file that it names.
     *
     * @return {@code complete}: true, false, or null when the files cannot be seen from here; then {@code reason}; else
     *     {@code size} in bytes, {@code checkpoint_id}, which rises from one to the next of a job and of those that go on
     *     from it, and {@code operators}
     */
    static Map<String, Object> inspect(String pointer) {
        CheckpointMetadata metadata;
        try {
            CompletedCheckpointStorageLocation location =
                    AbstractFsCheckpointStorageAccess.resolveCheckpointPointer(pointer);
            try (DataInputStream in = new DataInputStream(location.getMetadataHandle().openInputStream())) {
                metadata =
                        Checkpoints.loadCheckpointMetadata(in, SavepointFiles.class.getClassLoader(), pointer);
            } catch (IOException e) {
                return told(false, "its metadata cannot be read: " + e.getMessage());
            }
        } catch (Exception e) {
            // The cluster may see a folder that this machine does not.
            return isSeen(pointer)
                    ? told(false, "there is no savepoint and no checkpoint any more")
                    : told(null, "there is no metadata to be seen from the service's machine: " + e.getMessage());
        }
        SavepointFiles found = new SavepointFiles();
        long size = 0;
        List<Object> operators = new ArrayList<>();
        for (OperatorState operator : metadata.getOperatorStates()) {
            operator.getStates().forEach(found::add);
            size += operator.getStateSize();
            operators.add(described(operator));
        }
        String missing = found.firstMissing();
        if (missing != null) {
            return told(false, missing);
        }
        Map<String, Object> answer = told(true, null);
        answer.put("size", size);
        answer.put("checkpoint_id", metadata.getCheckpointId());
        answer.put("operators", operators);
        return answer;
    }

    /**
     * The whole savepoint in a folder that was made for it alone, as {@link #inspect}, with its {@code path}; otherwise
     * {@code complete} is false, or null when the folder cannot be seen from here.
     */
    static Map<String, Object> inspectIn(String folder) {
        try {
            Path parent = new Path(folder);
            FileStatus[] entries = parent.getFileSystem().listStatus(parent);
            for (FileStatus entry : entries == null ? new FileStatus[0] : entries) {
                Map<String, Object> answer = inspect(entry.getPath().toString());
                if (Boolean.TRUE.equals(answer.get("complete"))) {
                    answer.put("path", entry.getPath().toString());
                    return answer;
                }
            }
            return told(false, "there is no whole savepoint in " + folder);
        } catch (IOException e) {
            return isThere(new Path(folder).getParent())
                    ? told(false, "there is no folder " + folder)
                    : told(null, "the folder cannot be seen from the service's machine: " + e.getMessage());
        }
    }

    /**
     * Deletes the folder that was made for one savepoint, with all that is in it.
     *
     * @param folder its last name is the 32 hexadecimal digits of the savepoint's token; no other folder is touched
     * @return {@code gone}: true, false, or null when the folder cannot be seen from here; then {@code reason}
     */
    static Map<String, Object> remove(String folder) {
        Path path = new Path(folder);
        Map<String, Object> answer = new LinkedHashMap<>();
        if (!OWN.matcher(path.getName()).matches()) {
            throw new IllegalArgumentException(folder + " is not a savepoint's own folder");
        }
        try {
            FileSystem files = path.getFileSystem();
            if (!isThere(path) && !isThere(path.getParent())) {
                answer.put("gone", null);
                answer.put("reason", "the folder cannot be seen from the service's machine");
                return answer;
            }
            files.delete(path, true);
            answer.put("gone", !files.exists(path));
            answer.put("reason", "it could not be deleted");
        } catch (IOException e) {
            answer.put("gone", false);
            answer.put("reason", "it could not be deleted: " + e.getMessage());
        }
        return answer;
    }

    /** Whether the folder beneath which the runs' folders are can be seen: then what is not in it is not there. */
    private static boolean isSeen(String pointer) {
        Path own = new Path(pointer).getParent();
        return own != null && (isThere(own) || isThere(own.getParent()));
    }

    private static boolean isThere(Path path) {
        try {
            return path != null && path.getFileSystem().exists(path);
        } catch (IOException e) {
            return false;
        }
    }

    /**
     * The newest checkpoint of the job that a retained checkpoint belongs to: the one that was noted last may have been
     * followed, and deleted, by others since.
     *
     * @return as {@link #inspect}, with the {@code path} that was found
     */
    static Map<String, Object> newestBeside(String pointer) {
        TreeMap<Long, Path> found = new TreeMap<>(Comparator.reverseOrder());
        try {
            Path folder = new Path(pointer).getParent();
            FileStatus[] entries = folder.getFileSystem().listStatus(folder);
            for (FileStatus entry : entries == null ? new FileStatus[0] : entries) {
                Matcher name = CHECKPOINT.matcher(entry.getPath().getName());
                if (name.matches()) {
                    found.put(Long.parseLong(name.group(1)), entry.getPath());
                }
            }
        } catch (IOException e) {
            // Nothing can be listed here: what was noted is all that is known.
            found.clear();
        }
        for (Path path : found.values()) {
            Map<String, Object> answer = inspect(path.toString());
            if (Boolean.TRUE.equals(answer.get("complete"))) {
                answer.put("path", path.toString());
                return answer;
            }
        }
        Map<String, Object> answer = inspect(pointer);
        answer.put("path", pointer);
        return answer;
    }

    private static Map<String, Object> told(Boolean complete, String reason) {
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("complete", complete);
        answer.put("reason", reason);
        return answer;
    }

    private static Map<String, Object> described(OperatorState operator) {
        Map<String, Object> described = new LinkedHashMap<>();
        described.put("id", operator.getOperatorID().toString());
        described.put("uid", operator.getOperatorUid().orElse(null));
        described.put("name", operator.getOperatorName().orElse(null));
        described.put("parallelism", operator.getParallelism());
        described.put("max_parallelism", operator.getMaxParallelism());
        described.put("size", operator.getStateSize());
        described.put("holds", operator.getStates().stream().anyMatch(OperatorSubtaskState::hasState));
        described.put("keyed", operator.getStates().stream().anyMatch(SavepointFiles::isKeyed));
        described.put("native", operator.getStates().stream().anyMatch(SavepointFiles::isNative));
        return described;
    }

    private static boolean isKeyed(OperatorSubtaskState subtask) {
        return subtask.getManagedKeyedState().hasState() || subtask.getRawKeyedState().hasState();
    }

    /** Whether state by key is in its backend's own format, which no other backend reads. */
    private static boolean isNative(OperatorSubtaskState subtask) {
        return subtask.getManagedKeyedState().stream()
                .anyMatch(handle -> !(handle instanceof KeyGroupsSavepointStateHandle));
    }

    private void add(OperatorSubtaskState subtask) {
        for (OperatorStateHandle handle : subtask.getManagedOperatorState()) {
            add(handle.getDelegateStateHandle());
        }
        for (OperatorStateHandle handle : subtask.getRawOperatorState()) {
            add(handle.getDelegateStateHandle());
        }
        for (KeyedStateHandle handle : subtask.getManagedKeyedState()) {
            add(handle);
        }
        for (KeyedStateHandle handle : subtask.getRawKeyedState()) {
            add(handle);
        }
    }

    private void add(KeyedStateHandle handle) {
        if (handle instanceof KeyGroupsStateHandle) {
            add(((KeyGroupsStateHandle) handle).getDelegateStateHandle());
        } else if (handle instanceof IncrementalRemoteKeyedStateHandle) {
            IncrementalRemoteKeyedStateHandle incremental = (IncrementalRemoteKeyedStateHandle) handle;
            add(incremental.getMetaDataStateHandle());
            incremental.getPrivateState().forEach(one -> add(one.getHandle()));
            incremental.getSharedState().forEach(one -> add(one.getHandle()));
        }
    }

    private void add(StreamStateHandle handle) {
        handle.maybeGetPath().ifPresent(path -> sizes.merge(path, handle.getStateSize(), Math::max));
    }

    private String firstMissing() {
        for (Map.Entry<Path, Long> file : sizes.entrySet()) {
            try {
                FileStatus status = file.getKey().getFileSystem().getFileStatus(file.getKey());
                if (status.getLen() < file.getValue()) {
                    return "its file " + file.getKey() + " has " + status.getLen() + " of " + file.getValue() + " bytes";
                }
            } catch (IOException e) {
                return "its file " + file.getKey() + " is not there";
            }
        }
        return null;
    }
}
