// Each public module imports this file first: without it, an old version of Node.js fails at the first function that it
// lacks.
import { nodeVersionProblem } from './node-version.ts'

const problem = nodeVersionProblem()
if (problem) throw new Error(problem)
