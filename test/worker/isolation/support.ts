import { readFileSync } from 'node:fs'
import { defineHandlers } from 'accepted/worker'
import type { Test } from 'tap'
import { type Jobs, openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'
import * as operations from '../fixtures/isolate/operations.ts'

export const { act, hurry } = operations

/** The module that performs the jobs of both operations. */
export const perform = new URL('../fixtures/isolate/perform.ts', import.meta.url)

export const open = (t: Test) => openJobs(t, Object.values(operations))

export function isolatedHandlers(isolate: 'process' | 'thread', { concurrency = 2, memoryLimit = 128 } = {}) {
  const handler = { perform, isolate, concurrency, memoryLimit }
  return defineHandlers(operations, { act: handler, hurry: handler })
}

/** Waits until a job has reported progress. Returns the message of the report. */
export const reported = (jobs: Jobs, id: string): Promise<string> =>
  until(async () => {
    const { percent, message } = await jobs.read(id)
    return percent !== null && (message ?? 'nothing')
  })

/** Returns whether a process is running. A zombie process does not count. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
