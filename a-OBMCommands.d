OBMCommands.o: objc/metal/base/OBMCommands.c \
 objc/metal/base/OBMCommands.h objc/metal/base/OBMRecording.h \
 objc/metal/base/OBMArena.h objc/metal/base/OBMAtomic.h \
 objc/metal/base/OBMEventValue.h objc/metal/base/OBMKernel.h \
 objc/metal/abi/metallib.h objc/metal/base/OBMBindingTable.h
objc/metal/base/OBMCommands.h:
objc/metal/base/OBMRecording.h:
objc/metal/base/OBMArena.h:
objc/metal/base/OBMAtomic.h:
objc/metal/base/OBMEventValue.h:
objc/metal/base/OBMKernel.h:
objc/metal/abi/metallib.h:
objc/metal/base/OBMBindingTable.h:
