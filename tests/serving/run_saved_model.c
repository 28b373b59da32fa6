/* Runs signatures of a SavedModel through TensorFlow's C API, with no Python.

   run_saved_model FOLDER ROUNDS (INPUT TYPE SHAPE FILE OUTPUTS)...

   A request is of five words. INPUT is a tensor of the graph, such as
   serving_default_images:0, and OUTPUTS are such with commas between. TYPE is float,
   uint8 or string; SHAPE is such as 4x8x8x1. FILE holds the input: the numbers as they
   are in memory, or each string after its length in bytes and a line break.

   Makes all requests, ROUNDS times. Of the last round it prints, for each output, its
   name and shape on a line, and then its elements, one a line; and to stderr what went
   wrong. Prints to stderr, at each tenth of the rounds, how many KiB the process has in
   memory. The exit status is 1 if a request of the last round failed. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tensorflow/c/c_api.h"

#define MOST 16
#define WORDS 5

typedef struct {
  TF_Output input;
  TF_Tensor *value;
  int outputs;
  TF_Output wanted[MOST];
  const char *names[MOST];
} Request;

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

/* The tensor "name:index" of the graph. */
static TF_Output tensor_of(TF_Graph *graph, const char *tensor) {
  char name[1024];
  const char *colon = strrchr(tensor, ':');
  if (!colon || colon - tensor >= (long)sizeof(name)) fail("a tensor is NAME:INDEX");
  memcpy(name, tensor, colon - tensor);
  name[colon - tensor] = 0;
  TF_Output found = {TF_GraphOperationByName(graph, name), atoi(colon + 1)};
  if (!found.oper) fail("the graph has no such tensor");
  return found;
}

static int shape_of(const char *text, int64_t *dims) {
  int count = 0;
  for (const char *at = text; *at && count < MOST; at++) {
    char *end;
    dims[count++] = strtoll(at, &end, 10);
    at = end;
    if (!*at) break;
  }
  return count;
}

static TF_Tensor *read_input(const char *type, const char *shape, const char *path) {
  int64_t dims[MOST], elements = 1;
  int rank = shape_of(shape, dims);
  for (int i = 0; i < rank; i++) elements *= dims[i];
  FILE *file = fopen(path, "rb");
  if (!file) fail("the input cannot be read");
  TF_Tensor *tensor;
  if (!strcmp(type, "string")) {
    tensor = TF_AllocateTensor(TF_STRING, dims, rank, elements * sizeof(TF_TString));
    TF_TString *strings = TF_TensorData(tensor);
    for (int64_t i = 0; i < elements; i++) {
      size_t length;
      if (fscanf(file, "%zu", &length) != 1 || fgetc(file) != '\n')
        fail("the input is too short");
      char *bytes = malloc(length + 1);
      if (fread(bytes, 1, length, file) != length) fail("the input is too short");
      TF_StringInit(&strings[i]);
      TF_StringCopy(&strings[i], bytes, length);
      free(bytes);
    }
  } else {
    TF_DataType dtype = strcmp(type, "uint8") ? TF_FLOAT : TF_UINT8;
    size_t size = elements * TF_DataTypeSize(dtype);
    tensor = TF_AllocateTensor(dtype, dims, rank, size);
    if (fread(TF_TensorData(tensor), 1, size, file) != size)
      fail("the input is too short");
  }
  fclose(file);
  return tensor;
}

static void print(const char *name, const TF_Tensor *tensor) {
  int64_t elements = TF_TensorElementCount(tensor);
  void *data = TF_TensorData(tensor);
  printf("%s", name);
  for (int i = 0; i < TF_NumDims(tensor); i++)
    printf("%c%" PRId64, i ? 'x' : ' ', TF_Dim(tensor, i));
  printf("\n");
  for (int64_t i = 0; i < elements; i++) switch (TF_TensorType(tensor)) {
      case TF_FLOAT:
        printf("%.9g\n", ((float *)data)[i]);
        break;
      case TF_INT64:
        printf("%" PRId64 "\n", ((int64_t *)data)[i]);
        break;
      case TF_STRING: {
        TF_TString *string = (TF_TString *)data + i;
        int length = (int)TF_StringGetSize(string);
        printf("%.*s\n", length, TF_StringGetDataPointer(string));
        break;
      }
      default:
        fail("an output is neither float, int64 nor string");
    }
}

static Request request_of(TF_Graph *graph, char **words) {
  Request request = {tensor_of(graph, words[0])};
  request.value = read_input(words[1], words[2], words[3]);
  for (char *name = strtok(words[4], ","); name; name = strtok(NULL, ",")) {
    if (request.outputs == MOST) fail("too many outputs");
    request.names[request.outputs] = name;
    request.wanted[request.outputs++] = tensor_of(graph, name);
  }
  return request;
}

/* Whether it failed. */
static int make(TF_Session *session, Request *request, int shown) {
  TF_Tensor *results[MOST] = {0};
  TF_Status *status = TF_NewStatus();
  TF_SessionRun(session, NULL, &request->input, &request->value, 1, request->wanted,
                results, request->outputs, NULL, 0, NULL, status);
  int wrong = TF_GetCode(status) != TF_OK;
  if (wrong && shown) fprintf(stderr, "%s\n", TF_Message(status));
  for (int i = 0; i < request->outputs; i++)
    if (results[i]) {
      if (shown) print(request->names[i], results[i]);
      TF_DeleteTensor(results[i]);
    }
  TF_DeleteStatus(status);
  return wrong;
}

static void show_memory(int round) {
  long pages;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file) return;
  if (fscanf(file, "%*s %ld", &pages) == 1)
    fprintf(stderr, "round %d: %ld KiB\n", round, pages * (getpagesize() / 1024));
  fclose(file);
}

int main(int count, char **words) {
  int requests = (count - 3) / WORDS;
  if (requests < 1 || count != 3 + requests * WORDS)
    fail("run_saved_model FOLDER ROUNDS (INPUT TYPE SHAPE FILE OUTPUTS)...");
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, words[1], tags, 1,
                                                     graph, NULL, status);
  if (TF_GetCode(status) != TF_OK) fail(TF_Message(status));
  int rounds = atoi(words[2]), wrong = 0;
  Request *all = calloc(requests, sizeof(Request));
  for (int i = 0; i < requests; i++) all[i] = request_of(graph, words + 3 + i * WORDS);
  for (int round = 1; round <= rounds; round++) {
    for (int i = 0; i < requests; i++)
      wrong |= make(session, &all[i], round == rounds) && round == rounds;
    if (rounds >= 10 && round % (rounds / 10) == 0) show_memory(round);
  }
  for (int i = 0; i < requests; i++) TF_DeleteTensor(all[i].value);
  free(all);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return wrong;
}
