// Keeps jobs under way by requests: what has ended is replaced by another POST.
import { serveFeeder } from '../contenders/flow-process.ts'
import { post } from './post.ts'

const url = process.env.TARGET as string

serveFeeder({ chunk: 1, atOnce: 64, send: () => post(url) })
