// Keeps jobs in flight over HTTP: sends a new POST for each completed job.
import { serveFeeder } from '../contenders/flow-process.ts'
import { post } from './post.ts'

const url = process.env.TARGET as string

serveFeeder({ jobsPerSend: 1, concurrentSends: 64, send: () => post(url) })
