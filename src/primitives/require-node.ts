// Each public module imports this file first: without it, an old version of Node.js fails at the first function that it
// lacks.
import { nodeVersionProblem } from './node-version.ts'

const problem = nodeVersionProblem()
if (problem) {
  const error = new Error(problem)
  // Stack frames would hide the sentence.
  error.stack = `Error: ${problem}`
  throw error
}
