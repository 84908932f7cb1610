import { type FileHandle, open, readFile } from 'node:fs/promises'

/** What happened to an attempt of the client: it was about to be sent, and then one of the three. */
export type Happening = 'invoked' | 'acknowledged' | 'refused' | 'unknown'

/** A line of the journal. */
export interface Line {
  /** The client's name of its intent; the same over all attempts. */
  token: string
  happening: Happening
  /** The Idempotency-Key, when the intent has one. */
  key?: string
  /** The job that an acknowledgement names. */
  job?: string
  /** Status and code, or the error. */
  why?: string
}

/** The client's own account of what it was told, which no crash of anything else can take away. */
export interface Journal {
  path: string
  /** Resolves once the line is on the disk. */
  append(line: Line): Promise<void>
  read(): Promise<Line[]>
  close(): Promise<void>
}

/** Opens a journal. Lines that come together share one fsync. */
export async function openJournal(path: string): Promise<Journal> {
  const file: FileHandle = await open(path, 'a')
  let waiting: string[] = []
  let writing: Promise<void> = Promise.resolve()
  let next: Promise<void> | undefined
  const write = async () => {
    const text = waiting.join('')
    waiting = []
    next = undefined
    await file.appendFile(text)
    await file.datasync()
  }
  return {
    path,
    append(line) {
      waiting.push(`${JSON.stringify(line)}\n`)
      if (!next) {
        next = writing.then(write)
        writing = next
      }
      return next
    },
    async read() {
      await writing
      const text = await readFile(path, 'utf8')
      return text
        .split('\n')
        .filter(Boolean)
        .map((one) => JSON.parse(one) as Line)
    },
    async close() {
      await writing
      await file.close()
    },
  }
}
