// Keeps jobs in flight over HTTP: replaces each completed job by another POST.
import { serveFeeder } from '../contenders/flow-process.ts'
import { post } from './post.ts'

const url = process.env.TARGET as string

serveFeeder({ jobsPerSend: 1, concurrentSends: 64, send: () => post(url) })
