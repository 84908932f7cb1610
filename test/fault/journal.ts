import { type FileHandle, open, readFile } from 'node:fs/promises'

/** The client writes `invoked` before it sends a request, and one of the other events when it knows the outcome. */
export type JournalEvent = 'invoked' | 'acknowledged' | 'refused' | 'unknown'

/** A line of the journal. */
export interface JournalEntry {
  /** Identifies an intent: one thing that a client wants done. All requests for an intent have the same token. */
  token: string
  event: JournalEvent
  /** The Idempotency-Key, if the intent has one. */
  key?: string
  /** The id of the job, if the request was acknowledged. */
  job?: string
  /** Status and error code of the response, or the code of the network error. */
  reason?: string
}

/** The client's log of its requests and their outcomes. It survives a crash of every other process. */
export interface Journal {
  path: string
  /** Resolves once the entry is on disk. */
  append(entry: JournalEntry): Promise<void>
  read(): Promise<JournalEntry[]>
  close(): Promise<void>
}

/** Opens a journal. Entries that are appended at the same time share one fsync. */
export async function openJournal(path: string): Promise<Journal> {
  const file: FileHandle = await open(path, 'a')
  let lines: string[] = []
  let lastWrite: Promise<void> = Promise.resolve()
  let nextWrite: Promise<void> | undefined
  const write = async () => {
    const text = lines.join('')
    lines = []
    nextWrite = undefined
    await file.appendFile(text)
    await file.datasync()
  }
  return {
    path,
    append(entry) {
      lines.push(`${JSON.stringify(entry)}\n`)
      if (!nextWrite) {
        nextWrite = lastWrite.then(write)
        lastWrite = nextWrite
      }
      return nextWrite
    },
    async read() {
      await lastWrite
      const text = await readFile(path, 'utf8')
      return text
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as JournalEntry)
    },
    async close() {
      await lastWrite
      await file.close()
    },
  }
}
