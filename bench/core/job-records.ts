import { closeSync, openSync, readSync } from 'node:fs'

/** What happened to a job. Times are values of `now` in clock.ts. */
export interface JobRecord {
  /** When the job was to be enqueued. Undefined until the producer has recorded it. */
  due?: number
  /** When the reply to the commit arrived. Undefined if the job was not enqueued, or if that is not known. */
  committed?: number
  /** When the first execution ended. */
  ended?: number
  executions: number
}

/** Reads what the processes of a cell append to their files. */
export interface JobRecords {
  jobs: ReadonlyMap<number, JobRecord>
  /** The number of executions, of all jobs together. */
  executions(): number
  /** Reads the lines that were appended since the last call. */
  read(): void
  close(): void
}

const chunkBytes = 1 << 20

export function openRecords(enqueued: string, executions: string): JobRecords {
  const jobs = new Map<number, JobRecord>()
  let allExecutions = 0
  const recordOf = (sequence: number): JobRecord => {
    const known = jobs.get(sequence)
    if (known) return known
    const record = { executions: 0 }
    jobs.set(sequence, record)
    return record
  }
  const enqueuedFile = follow(enqueued, (sequence, due, committed) => {
    const record = recordOf(Number(sequence))
    record.due = Number(due)
    if (committed) record.committed = Number(committed)
  })
  const executionsFile = follow(executions, (sequence, ended) => {
    const record = recordOf(Number(sequence))
    record.ended ??= Number(ended)
    record.executions++
    allExecutions++
  })
  return {
    jobs,
    executions: () => allExecutions,
    read() {
      enqueuedFile.read()
      executionsFile.read()
    },
    close() {
      enqueuedFile.close()
      executionsFile.close()
    },
  }
}

/** Creates the file if it is missing. */
function follow(path: string, onLine: (...fields: (string | undefined)[]) => void) {
  const file = openSync(path, 'a+')
  const buffer = Buffer.alloc(chunkBytes)
  let position = 0
  let rest = ''
  return {
    read() {
      for (;;) {
        const bytes = readSync(file, buffer, 0, chunkBytes, position)
        if (bytes === 0) return
        position += bytes
        const lines = (rest + buffer.toString('latin1', 0, bytes)).split('\n')
        rest = lines.pop() as string
        for (const line of lines) onLine(...line.split(' '))
      }
    },
    close: () => closeSync(file),
  }
}
